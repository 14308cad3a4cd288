"""A cross-encoder: Nogueira and Cho, Passage Re-ranking with BERT, 2019, arXiv:1901.04085.

Query and document are read together, as ``[CLS] query [SEP] document [SEP]``; BERT's pooled
``[CLS]`` goes through one linear layer to the score. The encoder is `transformers`'
``BertForSequenceClassification``, so weights of such a model can be loaded into ``bert``.

The default sizes are those of MiniLM-L6 (Wang et al., MiniLM, NeurIPS 2020): 6 layers of width 384
with 12 heads, an intermediate width of 1536, and BERT's vocabulary of 30,522 tokens.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rankers.errors import UserError
from rankers.text import TOKENIZER
from rankers.zoo.layers import ClickRanker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.features import Feature, Signature

SMALL: dict[str, Any] = {
    "width": 64,
    "layers": 2,
    "heads": 4,
    "intermediate": 128,
    "std": 0.12,
    "dropout": 0.0,
}
TRAINING: dict[str, Any] = {"batch_rows": 32, "learning_rate": 0.001}
_SPECIAL = 3  # [CLS], and a [SEP] after each text
_FAR_BELOW = -1e9  # finite, and the same in every runtime


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options that follow from the features: which two are texts, and their lengths.

    Raises:
        UserError: There is no text of the user's and one of the item's with the same tokens, or
            several.
    """
    pairs = [
        (query, document)
        for query in signature.user
        for document in signature.item
        if query.padding is not None
        and (query.padding, query.cardinality) == (document.padding, document.cardinality)
    ]
    if len(pairs) != 1:
        raise UserError(
            "a cross-encoder reads one text of the user's and one of the item's: token IDs with "
            f"padding and the same cardinality; {len(pairs)} such pairs were found"
        )
    query, document = pairs[0]
    if query.cardinality is None:
        raise UserError(f"feature {query.name!r} has no cardinality: how many tokens are there?")
    return {
        "query": _text(query),
        "document": _text(document),
        "vocabulary": query.cardinality,
        "padding": query.padding,
    }


def options_from(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the options that follow from a log's files: the special tokens of its tokenizer.

    Raises:
        UserError: The tokenizer has none of BERT's.
    """
    if TOKENIZER not in files:
        return {}
    known = {each["content"]: each["id"] for each in json.loads(files[TOKENIZER])["added_tokens"]}
    missing = [each for each in ("[CLS]", "[SEP]") if each not in known]
    if missing:
        raise UserError(
            f"{TOKENIZER} has no {missing[0]}: a cross-encoder of the BERT family needs its "
            "tokenizer"
        )
    return {"cls": known["[CLS]"], "sep": known["[SEP]"]}


def _text(feature: Feature) -> dict[str, Any]:
    return {"name": feature.name, "tokens": feature.width}


class CrossEncoder(ClickRanker):
    """BERT over a query and a document.

    Args:
        query: ``name`` of the user's text and ``tokens``, the most it has: its feature's length.
        document: The same of the item's.
        vocabulary: How many token IDs there are.
        padding: The ID that marks an empty place, in both.
        cls: The ID of ``[CLS]``; the defaults of this and ``sep`` are those of BERT's vocabulary.
        sep: The ID of ``[SEP]``.
        width: Of the encoder.
        layers: Of the encoder.
        heads: Of its attention.
        intermediate: The width of each layer's MLP.
        positions: The most tokens of both texts, special ones among them.
        std: Of the initial weights; BERT's is small for a narrow encoder, whose attention would see
            all tokens alike for long.
        dropout: In the encoder, and before the last layer, in training.
        attention: How `transformers` computes attention: ``sdpa`` or ``eager``.

    Raises:
        UserError: `transformers` is not installed, or both texts together are too long.
    """

    def __init__(
        self,
        query: Mapping[str, Any],
        document: Mapping[str, Any],
        *,
        vocabulary: int = 30_522,
        padding: int = 0,
        cls: int = 101,
        sep: int = 102,
        width: int = 384,
        layers: int = 6,
        heads: int = 12,
        intermediate: int = 1536,
        positions: int = 512,
        std: float = 0.02,
        dropout: float = 0.1,
        attention: str = "sdpa",
    ) -> None:
        super().__init__()
        longest = query["tokens"] + document["tokens"] + _SPECIAL
        if longest > positions:
            raise UserError(
                f"{query['name']!r} of {query['tokens']} tokens, {document['name']!r} of "
                f"{document['tokens']} and {_SPECIAL} special ones are {longest}; the encoder has "
                f"{positions} positions: shorten the features"
            )
        self.query, self.document = query["name"], document["name"]
        self.padding, self.cls, self.sep = padding, cls, sep
        self.bert = _bert(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=intermediate,
            max_position_embeddings=positions,
            initializer_range=std,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            pad_token_id=padding,
            num_labels=1,
            attn_implementation=attention,
        )

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of relevance, ``[rows]``."""
        tokens, types, mask = self.join(columns[self.query], columns[self.document])
        # Padding stands between the texts too. Attention does not see it, and positions do not
        # count it, so a row scores as if its tokens stood together.
        positions = (mask.to(torch.int64).cumsum(1) - 1).clamp(min=0)
        seen = torch.where(mask, 0.0, _FAR_BELOW)[:, None, None, :]  # [B, 1, 1, T]
        output = self.bert(
            input_ids=tokens,
            token_type_ids=types,
            position_ids=positions,
            attention_mask=seen,
        )
        logits: Tensor = output.logits  # [B, 1]
        return logits.squeeze(1)

    def join(self, query: Tensor, document: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``[CLS] query [SEP] document [SEP]``, token types and mask, ``[B, T]`` each.

        Args:
            query: Token IDs, ``[B, Lq]``.
            document: Token IDs, ``[B, Ld]``.
        """
        sep = torch.full_like(query[:, :1], self.sep)
        cls = torch.full_like(sep, self.cls)
        tokens = torch.cat([cls, query, sep, document, sep], dim=1)  # T = Lq + Ld + 3
        first = query.shape[1] + 2
        types = (torch.arange(tokens.shape[1], device=tokens.device) >= first).to(tokens.dtype)
        return tokens, types.expand_as(tokens), tokens != self.padding


def _bert(**sizes: Any) -> nn.Module:
    try:
        from transformers import BertConfig, BertForSequenceClassification
    except ImportError as error:
        raise UserError(
            "the cross-encoder needs the package 'transformers': pip install 'rankserve[text]'"
        ) from error
    module: nn.Module = BertForSequenceClassification(BertConfig(**sizes))
    return module


build = CrossEncoder
