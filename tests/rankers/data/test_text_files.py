from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from rankers.cli import main
from rankers.data.source import read_log
from rankers.data.synthetic_text import TextModel
from rankers.text import TOKENIZER


def make_data(*arguments):
    return CliRunner().invoke(main, ["make-data", "--log", "texts", *map(str, arguments)])


@pytest.fixture(scope="module")
def drawn():
    return TextModel(seed=3).draw(300)


def test_the_table_of_token_ids_gives_the_same_requests(tmp_path, drawn):
    out = tmp_path / "tokens"
    done = make_data("--form", "tokens", "--rows", 300, "--seed", 3, "--out", out, "--json")
    assert json.loads(done.stdout)["rows"] == drawn.requests.rows
    log = read_log(str(out / "schema.toml"))
    assert log.signature == drawn.signature
    assert log.files == drawn.files
    for side in ("user", "items"):
        for name, column in getattr(drawn.requests, side).items():
            np.testing.assert_array_equal(getattr(log.requests, side)[name], column)
    np.testing.assert_array_equal(log.requests.labels, drawn.requests.labels)
    np.testing.assert_array_equal(log.requests.offsets, drawn.requests.offsets)


def test_the_texts_in_ms_marcos_files_give_the_same_requests(tmp_path, drawn):
    out = tmp_path / "texts"
    assert make_data("--rows", 300, "--seed", 3, "--out", out).exit_code == 0
    (out / TOKENIZER).write_bytes(drawn.files[TOKENIZER])
    log = read_log(str(out))
    np.testing.assert_array_equal(log.requests.labels, drawn.requests.labels)
    np.testing.assert_array_equal(log.requests.offsets, drawn.requests.offsets)
    for side, name in (("user", "query"), ("items", "document")):
        ours = getattr(drawn.requests, side)[name]
        theirs = getattr(log.requests, side)[name]
        np.testing.assert_array_equal(theirs[:, : ours.shape[1]], ours)
        assert not theirs[:, ours.shape[1] :].any()


def test_a_folder_that_is_there_and_a_form_of_clicks_are_refused(tmp_path):
    (tmp_path / "there").mkdir()
    refused = make_data("--out", tmp_path / "there")
    assert refused.exit_code == 2
    assert "is there already" in refused.stderr
    refused = make_data("--log", "clicks", "--form", "text", "--out", tmp_path / "a.parquet")
    assert "--form text: is of --log texts" in refused.stderr
    assert not (tmp_path / "a.parquet").exists()


def test_texts_in_a_table_become_token_ids(tmp_path):
    (tmp_path / "schema.toml").write_text(
        'label = "clicked"\nrequest = "search"\ndata = "log.csv"\n'
        '[features.asked]\nkind = "text"\nside = "user"\nlength = 3\n'
        '[features.title]\nkind = "text"\nlength = 2\n'
    )
    (tmp_path / "log.csv").write_text(
        "search,asked,title,clicked\n"
        "1,red shoes,shoes red,1\n1,red shoes,,0\n2,red red,red shoes red,0\n"
        "3,red,red,1\n4,zebra,zebra,0\n"
    )
    log = read_log(str(tmp_path / "schema.toml"))
    log.requests.check(log.signature)
    from rankers.text import load_tokenizer

    tokenizer = load_tokenizer(log.files[TOKENIZER])
    titles = [tokenizer.decode(row[row != 0].tolist()) for row in log.requests.items["title"]]
    assert titles[:4] == ["shoes red", "", "red shoes", "red"]  # the first tokens of a longer one
    unknown = tokenizer.token_to_id("[UNK]")
    assert log.requests.user["asked"][3, 0] == unknown  # learned from the first 80 % of the rows
    (tmp_path / TOKENIZER).write_bytes(log.files[TOKENIZER])
    schema = (tmp_path / "schema.toml").read_text()
    (tmp_path / "schema.toml").write_text(f'tokenizer = "tokenizer.json"\n{schema}')
    again = read_log(str(tmp_path / "schema.toml"))
    np.testing.assert_array_equal(again.requests.items["title"], log.requests.items["title"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('kind = "text"', "is a text; give its length"),
        ('kind = "text"\nlength = 3\nbuckets = 5', "buckets and separator are of IDs"),
        ('kind = "text"\nlength = 3\nmissing = 1.0', "transform and missing are of numbers"),
        ('kind = "txt"', "it is 'id', 'number' or 'text'"),
    ],
)
def test_a_schema_of_texts_that_cannot_be_is_refused(tmp_path, lines, message):
    from rankers.data.table_schema import load_table_schema
    from rankers.errors import UserError

    (tmp_path / "schema.toml").write_text(f'label = "y"\n[features.title]\n{lines}\n')
    with pytest.raises(UserError, match=message):
        load_table_schema(tmp_path / "schema.toml")
