"""A batch of padded tokens becomes, in the graph, what a tokenizer makes of each pair of texts."""

import numpy as np
import pytest
import torch
from torch import nn

from rankers.adapters import Call, PairEncoding, SpecialTokens, TokenEncoding
from rankers.bags import pad_bags
from rankers.errors import UserError
from rankers.features import Feature

WORDS = [f"w{number}" for number in range(20)]
QUERY = Feature("query", "int64", (4,), side="user", cardinality=40, padding=0)
DOCUMENT = Feature("document", "int64", (7,), cardinality=40, padding=0)


def bert_tokenizer():
    from transformers import BertTokenizer

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizer(vocab={word: place for place, word in enumerate(known)})


def xlm_roberta_tokenizer():
    from transformers import XLMRobertaTokenizer

    special = [(word, 0.0) for word in ("<s>", "<pad>", "</s>", "<unk>")]
    return XLMRobertaTokenizer(vocab=[*special, *((f"▁{word}", -1.0) for word in WORDS)])


def distilbert_tokenizer():
    tokenizer = bert_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def draw_texts(longest, count=60):
    random = np.random.default_rng(longest)
    return [" ".join(random.choice(WORDS, random.integers(0, longest + 1))) for _ in range(count)]


def rows_of(texts, tokenizer, feature):
    return pad_bags(
        [tokenizer(text, add_special_tokens=False).input_ids for text in texts], feature
    )


@pytest.mark.parametrize(
    "make_tokenizer", [bert_tokenizer, xlm_roberta_tokenizer, distilbert_tokenizer]
)
def test_a_pair_is_encoded_as_its_tokenizer_does(make_tokenizer):
    tokenizer = make_tokenizer()
    queries, documents = draw_texts(4), draw_texts(7)
    assert "" in queries
    assert "" in documents
    padding = tokenizer.pad_token_id
    features = (
        Feature("query", "int64", (4,), side="user", cardinality=40, padding=padding),
        Feature("document", "int64", (7,), cardinality=40, padding=padding),
    )
    encoding = PairEncoding(*features, SpecialTokens.of(tokenizer))
    expected = tokenizer(
        queries,
        documents,
        padding="max_length",
        max_length=encoding.length,
        return_tensors="pt",
    )
    columns = {
        "query": torch.from_numpy(rows_of(queries, tokenizer, features[0])),
        "document": torch.from_numpy(rows_of(documents, tokenizer, features[1])),
    }
    made = encoding.spread(columns)
    assert set(made) == set(tokenizer.model_input_names)
    for name, tensor in made.items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


def test_a_row_that_is_a_pair_already_gets_its_mask_and_segments():
    tokenizer = bert_tokenizer()
    expected = tokenizer(
        draw_texts(4), draw_texts(7), padding="max_length", max_length=14, return_tensors="pt"
    )
    tokens = Feature("tokens", "int64", (14,), cardinality=40, padding=0)
    encoding = TokenEncoding(tokens, separator=tokenizer.sep_token_id)
    made = encoding.spread({"tokens": expected["input_ids"]})
    for name in tokenizer.model_input_names:
        np.testing.assert_array_equal(made[name], expected[name], err_msg=name)


def test_without_a_separator_there_are_no_segments():
    tokens = Feature("tokens", "int64", (3,), cardinality=40, padding=9)
    made = TokenEncoding(tokens).spread({"tokens": torch.tensor([[5, 6, 9]])})
    assert list(made) == ["input_ids", "attention_mask"]
    np.testing.assert_array_equal(made["attention_mask"], [[1, 1, 0]])


def test_a_module_may_take_the_encoding_as_one_argument():
    class Counts(nn.Module):
        def forward(self, batch):
            return batch.attention_mask.sum(1) + batch["input_ids"].sum(1)

    tokens = Feature("tokens", "int64", (3,), cardinality=40, padding=0)
    call = Call(Counts(), batch=TokenEncoding(tokens))
    np.testing.assert_array_equal(call(tokens=torch.tensor([[5, 6, 0]])), [13])


class TestMistakesAreOneLine:
    def test_tokens_without_padding(self):
        odd = Feature("query", "int64", (4,), cardinality=40)
        with pytest.raises(UserError, match="feature 'query' states no padding; token IDs have"):
            PairEncoding(odd, DOCUMENT, SpecialTokens(2, 3))

    def test_segments_for_a_model_that_takes_none(self):
        from transformers import DistilBertConfig, DistilBertModel

        model = DistilBertModel(
            DistilBertConfig(vocab_size=40, dim=8, n_layers=1, n_heads=1, hidden_dim=8)
        )
        with pytest.raises(UserError, match=r"DistilBertModel.forward takes no argument 'token_ty"):
            Call(model, PairEncoding(QUERY, DOCUMENT, SpecialTokens(2, 3)))

    def test_rows_longer_than_the_model_has_positions(self):
        from transformers import BertConfig, BertModel

        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        model = BertModel(BertConfig(vocab_size=40, max_position_embeddings=13, **sizes))
        with pytest.raises(
            UserError, match="encodings are 14 tokens long, and BertModel has 13 po"
        ):
            Call(model, PairEncoding(QUERY, DOCUMENT, SpecialTokens(2, 3)))

    def test_a_tokenizer_without_special_tokens(self):
        tokenizer = bert_tokenizer()
        tokenizer.cls_token = None
        with pytest.raises(UserError, match="BertTokenizer has no cls_token: it does not encode"):
            SpecialTokens.of(tokenizer)
