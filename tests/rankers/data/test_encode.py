from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankers.checkpoint import load_checkpoint
from rankers.data.encode import RequestEncoder
from rankers.data.source import read_log
from rankers.errors import UserError
from rankers.requests import RequestError

SCHEMA = """\
label = "clicked"
request = "session"
data = "log.parquet"

[features.user]
side = "user"
column = "user_name"
buckets = 100

[features.seen]
side = "user"
cardinality = 20
oov = true
length = 3

[features.item]
cardinality = 5
oov = true

[features.tags]
buckets = 50
length = 2
separator = "|"

[features.price]
kind = "number"
transform = "log1p"
missing = 3.0
"""
# Every kind of value: known, out of the vocabulary, missing.
REQUESTS = [
    (
        {"user_name": "ann", "seen": [3, 25, 19]},
        [
            {"item": 4, "tags": "red|new", "price": 9.0},
            {"item": 5, "tags": None, "price": None},
            {"item": 123_456_789_012, "tags": "", "price": 0.0},
        ],
    ),
    ({"user_name": None, "seen": []}, [{"item": 0, "tags": "red", "price": 1.5}]),
    ({"user_name": "never met", "seen": None}, [{"item": 1, "tags": "a|b|c", "price": None}]),
]


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "schema.toml"
    path.write_text(SCHEMA)
    rows = [
        {"session": number, "clicked": 1} | user | item
        for number, (user, items) in enumerate(REQUESTS)
        for item in items
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    return path


def test_served_values_become_what_they_became_in_training(schema):
    log = read_log(str(schema))
    encoder = RequestEncoder.load(schema)
    for trained, (user, items) in zip(log.requests, REQUESTS, strict=True):
        served = encoder.request(user, items)
        served.check(log.signature)
        for side in ("user", "items"):
            for name, column in getattr(trained, side).items():
                np.testing.assert_array_equal(getattr(served, side)[name], column, err_msg=name)


def test_ids_out_of_the_vocabulary_share_the_row_after_the_last(schema):
    log = read_log(str(schema))
    assert log.signature.feature("item").cardinality == 6
    assert log.signature.feature("seen").cardinality == 21
    assert log.requests.items["item"].tolist() == [4, 5, 5, 0, 1]
    assert log.requests.user["seen"].tolist() == [[3, 20, 19], [0, 0, 0], [0, 0, 0]]


def test_without_oov_they_are_refused_and_the_message_says_what_to_do(schema):
    schema.write_text(SCHEMA.replace("cardinality = 5\noov = true", "cardinality = 5"))
    with pytest.raises(UserError, match=r"row 2: feature 'item' is '5'; IDs run from 0 to 4: raise "
                                        r"the cardinality, set oov = true, or hash"):  # fmt: skip
        read_log(str(schema))
    with pytest.raises(UserError, match=r"the request's candidate 1: feature 'item' is '5'"):
        RequestEncoder.load(schema).request(*REQUESTS[0])


def test_the_checkpoint_keeps_the_schema_and_scores_what_it_encodes(schema, tmp_path):
    from click.testing import CliRunner

    from rankers.cli import main

    log = parquet.read_table(tmp_path / "log.parquet").to_pylist()
    many = [row | {"session": time * 3 + row["session"]} for time in range(20) for row in log]
    parquet.write_table(pa.Table.from_pylist(many), tmp_path / "log.parquet")
    out = tmp_path / "dlrm"
    done = CliRunner().invoke(main, ["train", "dlrm", "--data", str(schema), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    ranker, encoder = load_checkpoint(out), RequestEncoder.load(out)
    scores = ranker.score(encoder.request(*REQUESTS[0]).flat())
    first = ranker.evaluation[len(ranker.evaluation) - 3]
    np.testing.assert_array_equal(scores, ranker.score(first.flat()))


@pytest.mark.parametrize(
    ("user", "item", "message"),
    [
        ({}, {"price": None, "tags": None}, "the request's candidate 0: column 'item' of feature"),
        (
            {"user_name": ...},
            {},
            "the request's user 0: column 'user_name' of feature 'user' is missing; None says that",
        ),
        ({}, {"item": "x"}, "candidate 0: feature 'item' is 'x'; expected a whole number from 0"),
        ({}, {"item": -1}, "candidate 0: feature 'item' is '-1'"),
        ({}, {"item": None}, "candidate 0: feature 'item' is missing; expected an ID"),
        ({}, {"price": "cheap"}, "candidate 0: feature 'price' is 'cheap'; expected a number"),
        ({}, {"price": -1.0}, "candidate 0: feature 'price' is -1; log1p needs 0 or more"),
        ({}, {"price": float("inf")}, "'price' is inf; expected a finite number"),
        ({"seen": 3}, {}, "user 0: feature 'seen' is a column of int64; name the separator"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_feature_and_candidate(schema, user, item, message):
    base_user, (base_item, *_) = REQUESTS[0]
    raw_user = {key: value for key, value in (base_user | user).items() if value is not ...}
    whole = base_item | item
    if "column 'item'" in message:
        del whole["item"]
    with pytest.raises(UserError, match=message):
        RequestEncoder.load(schema).request(raw_user, [whole])


def test_an_empty_request_is_refused(schema):
    with pytest.raises(RequestError, match="no candidates; at least 1 is needed"):
        RequestEncoder.load(schema).request(REQUESTS[0][0], [])


def test_values_of_several_types_are_refused(schema):
    user, items = REQUESTS[0]
    mixed = [items[0], items[1] | {"item": "five"}]
    with pytest.raises(RequestError, match=r"column 'item': .*expected values of one type"):
        RequestEncoder.load(schema).request(user, mixed)
