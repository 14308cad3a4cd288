from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankers.data.parquet import write_parquet, write_shards
from rankers.data.shard_forms import open_sharded
from rankers.data.source import data_key, open_log, read_log
from rankers.data.synthetic import ClickModel
from rankers.errors import UserError
from rankers.hashing import hash_ids

SCHEMA = """\
label = "clicked"
request = "session"
data = "shards"

[features.user]
side = "user"
buckets = 100

[features.item]
cardinality = 10
"""


def table(sessions, **changed):
    """Return rows of sessions: ``[("a", 3)]`` is three rows of session a."""
    names = [name for name, count in sessions for _ in range(count)]
    columns = {
        "session": names,
        "user": [f"user of {name}" for name in names],
        "item": [place % 10 for place in range(len(names))],
        "clicked": [place % 2 for place in range(len(names))],
    }
    return pa.table(columns | changed)


def write(folder, *shards, rows_of_a_group=4):
    """Write a schema and shards beside it; return the schema's path."""
    (folder / "shards").mkdir(exist_ok=True)
    for number, each in enumerate(shards):
        path = folder / "shards" / f"part-{number}.parquet"
        parquet.write_table(each, path, row_group_size=rows_of_a_group)
    (folder / "schema.toml").write_text(SCHEMA)
    return folder / "schema.toml"


def sizes(log):
    return [log.read([each]).requests.candidates.tolist() for each in log.pieces]


@pytest.mark.parametrize("rows_of_a_group", [1, 2, 3, 4, 5, 100])
def test_requests_are_whole_whatever_the_row_groups(tmp_path, rows_of_a_group):
    sessions = [("a", 3), ("b", 1), ("c", 9), ("d", 2), ("e", 1), ("f", 4)]
    path = write(tmp_path, table(sessions), rows_of_a_group=rows_of_a_group)
    log = open_sharded(path)
    found = log.read(log.pieces)
    assert found.requests.candidates.tolist() == [3, 1, 9, 2, 1, 4]
    assert found.requests.items["item"].tolist() == [place % 10 for place in range(20)]
    users = hash_ids([f"user of {name}" for name, _ in sessions], 100, salt="user")
    assert found.requests.user["user"].tolist() == users.tolist()
    for piece, each in zip(log.pieces, sizes(log), strict=True):
        assert (piece.requests, piece.rows) == (len(each), sum(each))
    found.requests.check(log.signature)


def test_a_piece_holds_the_requests_that_begin_in_its_row_group(tmp_path):
    log = open_sharded(write(tmp_path, table([("a", 3), ("b", 6), ("c", 2), ("d", 1)])))
    # Row groups of 4: aaab | bbbb | bccd
    assert sizes(log) == [[3, 6], [2, 1]]
    assert [each.groups for each in log.pieces] == [(0, 1, 2), (2,)]


def test_shards_follow_each_other_by_name(tmp_path):
    path = write(tmp_path, table([("a", 2), ("b", 3)]), table([("c", 4)]))
    (tmp_path / "shards" / "_SUCCESS").touch()
    log = open_sharded(path)
    assert (log.rows, [each.path.name for each in log.pieces]) == (
        9,
        ["part-0.parquet", "part-1.parquet"],
    )
    assert [x for each in sizes(log) for x in each] == [2, 3, 4]


def test_a_missing_request_is_a_request_of_its_own(tmp_path):
    log = open_sharded(write(tmp_path, table([("a", 2), (None, 2), ("b", 1)], user=["u"] * 5)))
    assert [x for each in sizes(log) for x in each] == [2, 2, 1]


def test_read_to_memory_shards_are_the_same_log(tmp_path):
    path = write(tmp_path, table([("a", 3), ("b", 6)]), table([("c", 2)]))
    log = read_log(str(path))
    assert log.requests.candidates.tolist() == [3, 6, 2]
    assert read_log(str(path), rows=2).requests.candidates.tolist() == [3]
    assert open_log(str(path), rows=2).rows == 9  # up to a whole piece


def test_without_a_request_column_requests_are_runs(tmp_path):
    path = write(tmp_path, table([("a", 30)]), rows_of_a_group=10)
    path.write_text(SCHEMA.replace('request = "session"\n', "").replace('side = "user"\n', ""))
    log = open_sharded(path)
    assert [each.rows for each in log.pieces] == [10, 10, 10]
    assert [each.requests for each in log.pieces] == [len(each) for each in sizes(log)]


def test_what_make_data_writes_in_shards_is_what_it_writes_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("rankers.data.synthetic._BLOCK_REQUESTS", 20)
    rows = write_parquet(tmp_path / "log.parquet", 9000)
    assert write_shards(tmp_path / "shards", 9000, 3) == rows
    assert len(list((tmp_path / "shards").iterdir())) == 3
    one, many = read_log(str(tmp_path / "log.parquet")), read_log(str(tmp_path / "shards"))
    np.testing.assert_array_equal(many.requests.offsets, one.requests.offsets)
    np.testing.assert_array_equal(many.requests.labels, one.requests.labels)
    np.testing.assert_array_equal(many.truth, one.truth)
    for name, column in one.requests.flat().items():
        np.testing.assert_array_equal(many.requests.flat()[name], column)
    with pytest.raises(UserError, match="exists; choose another"):
        write_shards(tmp_path / "shards", 10, 1, ClickModel())


def test_shards_are_known_by_their_footers_and_schema(tmp_path):
    path = write(tmp_path, table([("a", 3)]))
    first = data_key(str(path))
    assert data_key(str(path)) == first
    write(tmp_path, table([("a", 3)], item=[5, 5, 5]))
    second = data_key(str(path))
    path.write_text(SCHEMA.replace("100", "101"))
    assert len({first, second, data_key(str(path))}) == 3


def test_a_request_in_two_files_is_refused(tmp_path):
    path = write(tmp_path, table([("a", 2), ("b", 3)]), table([("b", 1), ("c", 1)]))
    with pytest.raises(UserError, match=r"part-1.*the request 'b' goes on from part-0"):
        open_sharded(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"item": [0, 1, 2, 3, 4, 5, 6, 7, 8, 17]},
            r"part-0.parquet row 10: feature 'item' is '17'; IDs run from 0 to 9",
        ),
        (
            {"clicked": [0, 1, 0, 1, 0, 3, 0, 0, 0, 0]},
            "part-0.parquet row 6: the label is 3; expected 0 to",
        ),
        ({"clicked": list("010x000000")}, "row 4: the label 'clicked' is 'x'"),
        (
            {"user": list("aaabbbcccc")},
            "'user' is the user's, but changes within a request in data",
        ),
    ],
)
def test_a_broken_row_is_named_by_its_place_in_the_file(tmp_path, changed, message):
    log = open_sharded(write(tmp_path, table([("a", 3), ("b", 4), ("c", 3)], **changed)))
    with pytest.raises(UserError, match=message):
        log.read(log.pieces)


def test_a_missing_column_is_refused_before_anything_is_read(tmp_path):
    path = write(tmp_path, table([("a", 3)]).drop_columns(["item"]))
    with pytest.raises(UserError, match="has column 'item' 0 times"):
        open_sharded(path)
    with pytest.raises(UserError, match="'request' is missing, so it is not what make-data"):
        open_sharded(tmp_path / "shards")


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = write(tmp_path, table([("a", 3)]))
    (tmp_path / "shards" / "part-0.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(UserError, match=r"part-0\.parquet: cannot be read as Parquet"):
        open_sharded(path)
