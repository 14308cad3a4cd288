"""The encodings that `transformers` models take, out of padded token IDs.

What a tokenizer does to a pair of texts for one row is done here for a batch, inside the graph. So
a query's tokens can be a user feature, sent once a request, and a document's an item feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rankers.adapters.call import Keywords
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from rankers.features import Feature


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that a tokenizer puts around a pair of texts.

    Attributes:
        start: Before the first text (``[CLS]``, ``<s>``).
        separator: After each text (``[SEP]``, ``</s>``).
        padding: What fills a row up.
        between: How many separators stand between the texts: 1 for BERT, 2 for RoBERTa and its kin.
        segments: Whether the model gets ``token_type_ids``: 0 for the first text, 1 for the second.
    """

    start: int
    separator: int
    padding: int = 0
    between: int = 1
    segments: bool = True

    @classmethod
    def of(cls, tokenizer: Any) -> SpecialTokens:
        """Read them off a `transformers` tokenizer.

        Raises:
            UserError: It has no start, separator or padding token.
        """
        around = tokenizer.num_special_tokens_to_add(pair=True)
        return cls(
            start=_token(tokenizer, "cls_token"),
            separator=_token(tokenizer, "sep_token"),
            padding=_token(tokenizer, "pad_token"),
            between=around - 2,  # the start token and the last separator are not between
            segments="token_type_ids" in tokenizer.model_input_names,
        )


class _Encoding(Keywords):
    """``input_ids``, ``attention_mask`` and, if there are segments, ``token_type_ids``."""

    length: int

    def __init__(self, *, segments: bool) -> None:
        types = ("token_type_ids",) if segments else ()
        self.names = ("input_ids", "attention_mask", *types)

    def make(self, columns: Mapping[str, Tensor]) -> Any:
        """Return a `transformers.BatchEncoding`, for modules that take it as one argument."""
        from transformers import BatchEncoding

        return BatchEncoding(self.spread(columns))

    def check(self, module: nn.Module) -> None:
        """Hold the length against what the model's configuration says."""
        limit = getattr(getattr(module, "config", None), "max_position_embeddings", None)
        if isinstance(limit, int) and self.length > limit:
            raise UserError(
                f"encodings are {self.length} tokens long, and {type(module).__name__} has "
                f"{limit} positions: make the features shorter, truncating texts when they are "
                "tokenized"
            )


class TokenEncoding(_Encoding):
    """The encoding of rows that a tokenizer has already put together.

    Args:
        tokens: The feature that holds ``input_ids``, int64 ``(L,)``, with its padding.
        separator: The separator token, if the model gets ``token_type_ids``: they are 1 after a
            row's first one.

    Raises:
        UserError: The feature holds no padded tokens.
    """

    def __init__(self, tokens: Feature, *, separator: int | None = None) -> None:
        super().__init__(segments=separator is not None)
        self._padding = _padding(tokens)
        self._separator = separator
        self.reads = (tokens.name,)
        self.length = tokens.width

    def spread(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the encoding, int64 ``[rows, L]`` each."""
        ids = columns[self.reads[0]].long()
        filled = ids != self._padding
        encoding = {"input_ids": ids, "attention_mask": filled.long()}
        if self._separator is not None:
            ends = (ids == self._separator).long()
            before = ends.cumsum(1) - ends  # separators before this place
            encoding["token_type_ids"] = ((before > 0) & filled).long()
        return encoding


class PairEncoding(_Encoding):
    """The encoding of two texts of which each has a feature: ``[CLS] query [SEP] document [SEP]``.

    The rows are those that the tokenizer makes of the pair, padded at the end to the longest there
    can be.

    Args:
        query: Token IDs of the first text without special tokens, int64 ``(Lq,)``, with padding.
        document: Those of the second, int64 ``(Ld,)``, with padding.
        tokens: The special tokens.

    Raises:
        UserError: A feature holds no padded tokens.
    """

    def __init__(self, query: Feature, document: Feature, tokens: SpecialTokens) -> None:
        super().__init__(segments=tokens.segments)
        self._paddings = (_padding(query), _padding(document))
        self._widths = (query.width, document.width)
        self._tokens = tokens
        self.reads = (query.name, document.name)
        self.length = query.width + document.width + tokens.between + 2

    def spread(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the encoding, int64 ``[rows, Lq + Ld + 2 + between]`` each."""
        query, document = (columns[name].long() for name in self.reads)
        query_size, document_size = (
            (ids != padding).sum(1, keepdim=True)  # [rows, 1]
            for ids, padding in zip((query, document), self._paddings, strict=True)
        )
        tokens, (query_width, _) = self._tokens, self._widths
        # All tokens with both texts at full width, and one padding. Places of the encoding are then
        # read from it: the texts' own padding is skipped.
        source = torch.cat(
            [
                _fill(query, tokens.start, 1),
                query,
                _fill(query, tokens.separator, tokens.between),
                document,
                _fill(query, tokens.separator, 1),
                _fill(query, tokens.padding, 1),
            ],
            dim=1,
        )  # [rows, length + 1]
        place = torch.arange(self.length).unsqueeze(0)  # [1, length]
        second = 1 + query_size + tokens.between  # where the document begins, [rows, 1]
        end = second + document_size  # where the last separator stands
        taken = torch.where(place <= query_size, place, place + (query_width - query_size))
        taken = torch.where(place >= end, self.length - 1, taken)
        taken = torch.where(place > end, self.length, taken)
        filled = place <= end
        encoding = {
            "input_ids": source.gather(1, taken),
            "attention_mask": filled.long(),
        }
        if tokens.segments:
            encoding["token_type_ids"] = ((place >= second) & filled).long()
        return encoding


def _padding(feature: Feature) -> int:
    if feature.padding is None:
        raise UserError(
            f"feature {feature.name!r} states no padding; token IDs have shape (L,) and a padding"
        )
    return feature.padding


def _token(tokenizer: Any, name: str) -> int:
    token: int | None = getattr(tokenizer, f"{name}_id", None)
    if token is None:
        raise UserError(
            f"{type(tokenizer).__name__} has no {name}: it does not encode pairs of texts as "
            "BERT-like rankers take them"
        )
    return token


def _fill(like: Tensor, token: int, width: int) -> Tensor:
    return like.new_full((like.shape[0], width), token)
