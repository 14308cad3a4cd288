"""Recorded requests."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.request_log import load_log
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.requests import save_requests

SIGNATURE = Signature(
    (
        Feature("user_id", "int64", (), "user", 100),
        Feature("history", "int64", (2,), "user", 100),
        Feature("item_id", "int64", (), "item", 100),
        Feature("price", "float32", (2,), "item"),
    )
)
ROWS = {
    "arrival_s": [0.0, 1.5],
    "user_id": [7, 8],
    "history": [[1, 2], [3, 4]],
    "item_id": [[10, 11, 12], [13]],
    "price": [[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [[6.0, 7.0]]],
}


def write(tmp_path, **changes):
    path = tmp_path / "log.parquet"
    rows = {name: values for name, values in (ROWS | changes).items() if values is not None}
    pq.write_table(pa.table(rows), path)
    return path


def test_rows_of_parquet_are_requests(tmp_path):
    first, second = load_log(write(tmp_path), SIGNATURE)
    assert first.user["history"].tolist() == [[1, 2]]
    assert first.items["item_id"].tolist() == [10, 11, 12]
    assert first.items["price"].dtype == np.float32
    assert second.items["price"].tolist() == [[6, 7]]


def test_rows_written_in_several_chunks_are_read_as_one(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table(ROWS), path, row_group_size=1)
    assert load_log(path, SIGNATURE).candidates.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"item_id": None}, "no column 'item_id'"),
        ({"item_id": [1, 2]}, "lists with an entry for each candidate"),
        ({"item_id": [[10, 11], [13]]}, "lists of different lengths"),
        ({"item_id": [[10, 11, 1000], [13]]}, "holds the ID 1000"),
        ({"item_id": [[10, 11, None], [13]]}, "1 of them empty"),
        ({"item_id": [[10, 11, 1.5], [13.0]]}, "holds fractions"),
        ({"history": [[1, 2, 3], [3, 4]]}, "holds 5 values"),
        ({"user_id": ["a", "b"]}, "'user_id' holds 2 values of string"),
    ],
)
def test_what_does_not_fit_the_signature_is_named(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        load_log(write(tmp_path, **changes), SIGNATURE)


def test_parquet_needs_a_signature(tmp_path):
    with pytest.raises(UserError, match="does not say its features"):
        load_log(write(tmp_path), None)


def test_safetensors_are_read_too_and_checked(tmp_path, log):
    save_requests(log, tmp_path / "log.safetensors")
    assert len(load_log(tmp_path / "log.safetensors", None)) == 40
    with pytest.raises(UserError, match="unknown user feature 'age'"):
        load_log(tmp_path / "log.safetensors", SIGNATURE)
