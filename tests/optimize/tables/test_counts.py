"""Counts of IDs from files, and requests with IDs as often."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import table_rankers
from pyarrow import parquet

from optimize.tables.counts import frequent_requests, read_counts
from rankers.errors import UserError
from rankers.seen import count_ids, save_counts

SIGNATURE = table_rankers.SIGNATURE


def write_parquet(path, **columns):
    parquet.write_table(pa.table(columns), path)
    return str(path)


def test_a_checkpoints_counts_are_read_as_they_were_written(tmp_path):
    counts = count_ids(table_rankers.requests(), SIGNATURE)
    save_counts(counts, tmp_path / "seen.safetensors")
    found = read_counts(str(tmp_path / "seen.safetensors"), SIGNATURE)
    assert set(found) == set(counts) == {"user_id", "region", "item", "word", "kind"}
    for name, each in counts.items():
        np.testing.assert_array_equal(found[name], each)


def test_a_table_of_counts_names_features_and_ids(tmp_path):
    path = write_parquet(
        tmp_path / "c.parquet",
        feature=["item", "kind", "item"], id=[7, 1, 299], count=[5, 2, 1],
    )  # fmt: skip
    found = read_counts(path, SIGNATURE)
    assert {name: x.shape for name, x in found.items()} == {"item": (300,), "kind": (20,)}
    assert dict(enumerate(found["item"][[7, 299, 0]])) == {0: 5, 1: 1, 2: 0}
    assert found["item"].sum() == 6


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"feature": ["itm"], "id": [1], "count": [1]}, "'itm', which is no feature .* 'item'"),
        ({"feature": ["history"], "id": [1], "count": [1]}, "no feature of single IDs"),
        ({"feature": ["item"], "id": [300], "count": [1]}, r"shape \(301,\).* up to 300"),
        ({"feature": ["item"], "id": [-1], "count": [1]}, "the ID -1"),
        ({"feature": ["item"], "id": [1], "count": [-2]}, "from -2; expected .* 0 or more"),
        ({"feature": ["item"], "id": [1]}, "columns feature, id, count"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, columns, message):
    path = write_parquet(tmp_path / "c.parquet", **columns)
    with pytest.raises(UserError, match=message):
        read_counts(path, SIGNATURE)


@pytest.mark.parametrize("name", ["none.safetensors", "none.parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(UserError, match=name):
        read_counts(str(tmp_path / name), SIGNATURE)


def test_requests_have_ids_as_often_as_training_met_them():
    counts = {"item": np.array([0] * 10 + [3, 1] + [0] * 288)}
    batch = frequent_requests(SIGNATURE, 4000, counts)
    batch.check(SIGNATURE)
    assert len(batch) == batch.rows == 4000
    assert set(batch.items["item"]) == {10, 11}
    assert np.mean(batch.items["item"] == 10) == pytest.approx(0.75, abs=0.03)
    assert len(np.unique(batch.user["user_id"])) == 400  # not counted: any


def test_counts_of_nothing_leave_ids_as_they_are_drawn():
    batch = frequent_requests(SIGNATURE, 500, {"item": np.zeros(300, np.int64)})
    assert len(np.unique(batch.items["item"])) > 100
