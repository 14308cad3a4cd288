from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from rankers.data.vocabulary import SPECIAL, train_wordpiece
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.text import TextEncoder, load_tokenizer, read_tokenizer

TEXTS = ["Red shoes for running", "running shoes, red and blue", "a blue coat"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(lambda: TEXTS, 200)


@pytest.fixture(scope="module")
def signature():
    return Signature(
        (
            Feature("query", "int64", (4,), "user", 200, padding=0),
            Feature("document", "int64", (5,), "item", 200, padding=0),
            Feature("price", "float32", (), "item"),
        )
    )


@pytest.fixture
def encoder(tokenizer, signature):
    return TextEncoder(tokenizer, signature)


def words(tokenizer, row):
    return [load_tokenizer(tokenizer).id_to_token(int(each)) for each in row if each]


class TestVocabulary:
    def test_special_tokens_come_first_and_words_that_are_frequent_are_whole(self, tokenizer):
        known = load_tokenizer(tokenizer)
        assert [known.id_to_token(place) for place in range(5)] == list(SPECIAL)
        assert known.token_to_id("shoes") is not None
        assert known.token_to_id("Red") is None  # lower case

    def test_the_same_texts_give_the_same_vocabulary(self):
        # Words that are equally frequent: in the trainer's own order ties fall by chance.
        texts = [" ".join(f"w{a}{b}x{a}" for b in "abcdef") for a in "ghijklmnop"]
        made = {train_wordpiece(lambda: texts, 90) for _ in range(8)}
        assert len(made) == 1

    def test_transformers_reads_it_and_joins_pairs_alike(self, tokenizer, tmp_path):
        from transformers import PreTrainedTokenizerFast

        (tmp_path / "tokenizer.json").write_bytes(tokenizer)
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
        pair = theirs("red shoes", "a coat")
        ours = load_tokenizer(tokenizer).encode("red shoes", add_special_tokens=False).ids
        assert pair["input_ids"][:4] == [2, *ours, 3]
        assert pair["input_ids"][-1] == 3


class TestTextEncoder:
    def test_texts_become_rows_of_tokens_filled_up_with_padding(self, encoder, tokenizer):
        rows = encoder.encode("query", ["red shoes", "", "Running!"])
        assert rows.dtype == np.int64
        assert rows.shape == (3, 4)
        assert words(tokenizer, rows[0]) == ["red", "shoes"]
        assert rows[1].tolist() == [0, 0, 0, 0]
        assert words(tokenizer, rows[2]) == ["running", "[UNK]"]

    def test_a_request_carries_texts_or_token_ids_and_other_features(self, encoder, signature):
        price = np.ones(2, np.float32)
        texts = encoder.request(
            {"query": "red shoes"}, {"document": ["blue coat", "shoes"], "price": price}
        )
        texts.check(signature)
        ids = encoder.request(
            {"query": texts.user["query"]}, {"document": texts.items["document"], "price": price}
        )
        np.testing.assert_array_equal(ids.items["document"], texts.items["document"])
        np.testing.assert_array_equal(ids.user["query"], texts.user["query"])

    def test_a_text_too_long_is_truncated_to_its_first_tokens_and_counted(self, encoder, tokenizer):
        rows = encoder.encode("query", ["red shoes for running and", "a coat", "a a a a a"])
        assert words(tokenizer, rows[0]) == ["red", "shoes", "for", "running"]
        assert encoder.truncated == {"query": 2}

    def test_or_it_is_refused(self, tokenizer, signature):
        strict = TextEncoder(tokenizer, signature, too_long="refuse")
        with pytest.raises(UserError, match=r"'query' row 1 has 5 tokens; at most 4 are read"):
            strict.encode("query", ["red", "red shoes for running and"])
        with pytest.raises(UserError, match="did you mean 'refuse'"):
            TextEncoder(tokenizer, signature, too_long="refused")

    def test_a_text_cannot_write_special_tokens(self, encoder):
        row = encoder.encode("document", ["[PAD] [SEP]"])[0]
        assert not {2, 3, 4} & set(row.tolist())

    @pytest.mark.parametrize(
        ("name", "texts", "message"),
        [
            ("query", ["red", 5], "feature 'query' row 1 is 5; expected a text"),
            ("price", ["red"], "feature 'price' takes no texts"),
            ("querry", ["red"], "did you mean 'query'"),
        ],
    )
    def test_what_cannot_be_encoded_is_refused(self, encoder, name, texts, message):
        with pytest.raises(UserError, match=message):
            encoder.encode(name, texts)

    @pytest.mark.parametrize(
        ("cardinality", "padding", "message"),
        [(20, 0, "feature 'query' has 20 IDs"), (200, 1, r"the tokenizer's \[PAD\] is 0")],
    )
    def test_another_rankers_tokenizer_is_refused(self, tokenizer, cardinality, padding, message):
        query = Feature("query", "int64", (4,), "item", cardinality, padding=padding)
        with pytest.raises(UserError, match=message):
            TextEncoder(tokenizer, Signature((query,))).encode("query", ["red"])


class TestFiles:
    def test_a_changed_tokenizer_of_a_checkpoint_is_refused(self, tokenizer, signature, tmp_path):
        from rankers.checkpoint import load_checkpoint, save_checkpoint
        from rankers.data.synthetic_text import TextModel
        from rankers.ranker import Ranker
        from rankers.zoo import options_of
        from rankers.zoo.cross_encoder import build

        log = TextModel().draw(50)
        options = options_of("cross_encoder", log, overrides={"layers": 1, "width": 8})
        module = build(**options)
        made = Ranker("cross_encoder", module, log.signature, log.requests, files=log.files)
        save_checkpoint(tmp_path / "made", made, options, {})
        assert load_checkpoint(tmp_path / "made").files == log.files
        file = tmp_path / "made" / "files" / "tokenizer.json"
        assert read_tokenizer(tmp_path / "made") == file.read_bytes() == log.files[file.name]
        file.write_bytes(file.read_bytes().replace(b"sofa", b"safo"))
        with pytest.raises(UserError, match=r"tokenizer\.json: its SHA-256 is not"):
            TextEncoder(tmp_path / "made", log.signature)
        with pytest.raises(UserError, match=r"tokenizer\.json: its SHA-256 is not"):
            load_checkpoint(tmp_path / "made")

    def test_a_folder_of_transformers_will_do(self, tokenizer, signature, tmp_path):
        from transformers import PreTrainedTokenizerFast

        (tmp_path / "own.json").write_bytes(tokenizer)
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "own.json"))
        theirs.save_pretrained(tmp_path / "theirs")
        encoder = TextEncoder(tmp_path / "theirs", signature)
        np.testing.assert_array_equal(
            encoder.encode("query", TEXTS),
            TextEncoder(tokenizer, signature).encode("query", TEXTS),
        )

    @pytest.mark.parametrize(
        ("content", "message"),
        [(None, "holds no tokenizer.json"), (b"{}", "is no tokenizer"), (b"\xff", "is no")],
    )
    def test_a_folder_without_a_tokenizer_is_refused(self, signature, tmp_path, content, message):
        if content is not None:
            (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(UserError, match=message):
            TextEncoder(tmp_path, signature)

    def test_a_client_encodes_texts_without_torch_or_transformers(self, tokenizer, tmp_path):
        (tmp_path / "tokenizer.json").write_bytes(tokenizer)
        code = (
            "import sys, client\n"
            "from rankers.text import TextEncoder\n"
            "from rankers.features import Feature, Signature\n"
            "query = Feature('query', 'int64', (4,), 'item', 200, padding=0)\n"
            f"encoder = TextEncoder({str(tmp_path)!r}, Signature((query,)))\n"
            "assert encoder.encode('query', ['red']).any()\n"
            "print({'torch', 'transformers'} & set(sys.modules) or 'none')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "none"

    @pytest.mark.parametrize(
        ("missing", "call", "message"),
        [
            ("tokenizers", "load_tokenizer(b'')", "texts need the package 'tokenizers'"),
            ("tokenizers", "train_wordpiece(lambda: ['a'])", "pip install 'rankserve[text]'"),
            ("transformers", "cross_encoder()", "needs the package 'transformers': pip install"),
        ],
    )
    def test_what_is_not_installed_is_said_in_a_line(self, monkeypatch, missing, call, message):
        from rankers.zoo.cross_encoder import CrossEncoder

        def cross_encoder():
            return CrossEncoder({"name": "q", "tokens": 2}, {"name": "d", "tokens": 2})

        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(UserError, match=message.replace("[", r"\[")):
            eval(call, globals() | {"cross_encoder": cross_encoder})  # noqa: S307


def test_a_tokenizer_without_berts_special_tokens_is_refused(tokenizer):
    from rankers.zoo.cross_encoder import options_from

    data = json.loads(tokenizer)
    data["added_tokens"] = [x for x in data["added_tokens"] if x["content"] != "[SEP]"]
    with pytest.raises(UserError, match=r"has no \[SEP\]"):
        options_from({"tokenizer.json": json.dumps(data).encode()})
    assert options_from({"tokenizer.json": tokenizer}) == {"cls": 2, "sep": 3}
    assert options_from({}) == {}
