from __future__ import annotations

import dataclasses

import pytest
import torch

from rankers.data.synthetic_text import SIGNATURE, TextModel
from rankers.data.vocabulary import train_wordpiece
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.text import TextEncoder
from rankers.zoo import options_of
from rankers.zoo.cross_encoder import SMALL, CrossEncoder, options_for

QUERY = torch.tensor([[10, 11, 0, 0], [12, 0, 0, 0], [0, 0, 0, 0]])
DOCUMENT = torch.tensor([[20, 21, 22, 0, 0], [23, 24, 25, 26, 27], [28, 0, 0, 0, 0]])


def made(**options):
    torch.manual_seed(0)
    sizes = {"vocabulary": 40, "cls": 2, "sep": 3} | SMALL
    query, document = {"name": "query", "tokens": 4}, {"name": "document", "tokens": 5}
    return CrossEncoder(query, document, **sizes | options).eval()


def test_the_texts_are_joined_as_bert_reads_pairs():
    tokens, types, mask = made().join(QUERY, DOCUMENT)
    assert tokens[0].tolist() == [2, 10, 11, 0, 0, 3, 20, 21, 22, 0, 0, 3]
    assert types[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert mask[0].tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1]
    assert mask.dtype == torch.bool


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_between_the_texts_scores_as_none(attention):
    """The same rows without padding, through BERT as `transformers` calls it."""
    module = made(attention=attention)
    scores = module.logits(query=QUERY, document=DOCUMENT)
    for row in range(3):
        query, document = (x[row][x[row] != 0].tolist() for x in (QUERY, DOCUMENT))
        tokens = torch.tensor([[2, *query, 3, *document, 3]])
        types = torch.tensor([[0] * (len(query) + 2) + [1] * (len(document) + 1)])
        alone = module.bert(input_ids=tokens, token_type_ids=types).logits[0, 0]
        torch.testing.assert_close(scores[row], alone, atol=1e-6, rtol=1e-5)


def test_it_reads_pairs_as_a_tokenizer_of_transformers_writes_them(tmp_path):
    from transformers import PreTrainedTokenizerFast

    content = train_wordpiece(lambda: ["red shoes", "blue coat", "shoes for running"] * 2, 200)
    (tmp_path / "tokenizer.json").write_bytes(content)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    signature = Signature(
        (
            Feature("query", "int64", (4,), "user", 200, padding=0),
            Feature("document", "int64", (5,), "item", 200, padding=0),
        )
    )
    request = TextEncoder(tmp_path, signature).request(
        {"query": "red shoes"}, {"document": ["blue coat", "shoes for running shoes"]}
    )
    module = made(vocabulary=200)
    columns = {name: torch.from_numpy(x) for name, x in request.flat().items()}
    for row, document in enumerate(["blue coat", "shoes for running shoes"]):
        pair = theirs("red shoes", document, return_tensors="pt", return_token_type_ids=True)
        expected = module.bert(**pair).logits[0, 0]
        torch.testing.assert_close(module.logits(**columns)[row], expected, atol=1e-6, rtol=1e-5)


def test_the_order_of_words_matters():
    module = made()
    turned = DOCUMENT.clone()
    turned[1] = DOCUMENT[1].flip(0)
    with torch.no_grad():
        one, other = (module.logits(query=QUERY, document=x) for x in (DOCUMENT, turned))
    torch.testing.assert_close(one[0], other[0])
    assert abs(float(one[1] - other[1])) > 1e-5


def test_the_published_size_is_minilms():
    options = options_of("cross_encoder", TextModel().draw(50), size="published")
    bert = CrossEncoder(**options).bert
    assert bert.config.num_hidden_layers == 6
    assert bert.config.hidden_size == 384
    assert bert.config.num_attention_heads == 12
    assert bert.config.intermediate_size == 1536
    default = CrossEncoder(options["query"], options["document"])
    # As counted for the published MiniLM-L6 cross-encoders: 22.7 million weights.
    assert sum(each.numel() for each in default.parameters()) == 22_713_601


def test_special_tokens_are_those_of_the_logs_tokenizer():
    log = TextModel().draw(50)
    options = options_of("cross_encoder", log)
    assert (options["cls"], options["sep"], options["vocabulary"]) == (2, 3, 256)
    bare = dataclasses.replace(log, files={})
    assert CrossEncoder(**options_of("cross_encoder", bare)).cls == 101


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (SIGNATURE.item, "0 such pairs were found"),
        (
            (*SIGNATURE.features, Feature("more", "int64", (3,), "item", 256, padding=0)),
            "2 such pairs",
        ),
        (
            tuple(dataclasses.replace(x, cardinality=None) for x in SIGNATURE.features),
            "has no cardinality",
        ),
    ],
)
def test_features_that_are_no_pair_of_texts_are_refused(features, message):
    with pytest.raises(UserError, match=message):
        options_for(Signature(features))


def test_texts_longer_than_the_encoder_are_refused():
    with pytest.raises(UserError, match=r"are 12; the encoder has 11 positions"):
        made(positions=11)
