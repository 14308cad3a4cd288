"""Recorded arrival times."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.arrival_trace import load_trace
from rankers.errors import UserError


@pytest.mark.parametrize(
    "lines",
    [
        "100.5\n100\n\n102",
        '{"arrival_s": 100.5}\n{"arrival_s": 100, "user": 3}\n{"ts": 102}',
        '"2026-01-01T00:00:00.500"\n"2026-01-01T00:00:00"\n"2026-01-01T00:00:02"',
    ],
)
def test_json_lines_are_seconds_after_the_first_ascending(tmp_path, lines):
    path = tmp_path / "trace.jsonl"
    path.write_text(lines)
    assert load_trace(path).tolist() == [0, 0.5, 2]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([7.5, 7.0, 9.0]),
        pa.array([dt.datetime(2026, 1, 1, 0, 0, 0, us, dt.UTC) for us in (500_000, 0, 0)]),
    ],
)
def test_parquet_columns_are_numbers_or_timestamps(tmp_path, column):
    path = tmp_path / "trace.parquet"
    pq.write_table(pa.table({"other": [1, 2, 3], "timestamp": column}), path)
    found = load_trace(path)
    assert found[0] == 0
    assert 0.5 in found


def test_parquet_timestamps_keep_their_microseconds(tmp_path):
    path = tmp_path / "trace.parquet"
    stamps = np.array([0, 123_457, 10_000_001], dtype="datetime64[us]")
    pq.write_table(pa.table({"time": stamps}), path)
    assert load_trace(path).tolist() == [0, 0.123457, 10.000001]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "1", r"\.jsonl or \.parquet"),
        ("a.jsonl", "1\nsoon\n", "line 2"),
        ("a.jsonl", '{"when": 1}\n', "line 1"),
        ("a.jsonl", "true\n", "line 1"),
        ("a.jsonl", "5\n", "two different ones"),
        ("a.jsonl", "5\n5\n", "two different ones"),
        ("a.jsonl", "5\nNaN\n", "not finite"),
        ("a.parquet", "x", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        load_trace(path)


def test_a_parquet_file_without_times_names_its_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"when": [1.0, 2.0]}), path)
    with pytest.raises(UserError, match="when"):
        load_trace(path)
