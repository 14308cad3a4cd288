"""Recorded arrival times, read from JSON lines or Parquet."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from rankers.requests import Array

# Names that logs have for it. Numbers are seconds.
COLUMNS = ("arrival_s", "timestamp", "time", "ts")


def load_trace(path: Path) -> Array:
    """Read arrival times: float64 ``[count]`` seconds after the first, ascending.

    Args:
        path: ``.jsonl``, with a number, an ISO 8601 time or an object that has one of `COLUMNS` on
            each line; or ``.parquet`` with such a column, of numbers or timestamps. Numbers are
            seconds, of any epoch. The order of lines does not matter.

    Raises:
        UserError: The file is missing, or holds less than two different times.
    """
    if path.suffix == ".parquet":
        times = _from_parquet(path)
    elif path.suffix in {".jsonl", ".ndjson"}:
        times = _from_json_lines(path)
    else:
        raise UserError(f"{path}: a trace of arrivals is a .jsonl or .parquet file")
    if not np.isfinite(times).all():
        raise UserError(f"{path}: holds an arrival time that is not finite")
    times = np.sort(times)
    if len(times) < 2 or times[0] == times[-1]:
        raise UserError(f"{path}: holds {len(times)} arrival times; two different ones are needed")
    since: Array = times - times[0]
    return since


def _from_json_lines(path: Path) -> Array:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a trace: {error}") from error
    times = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            times.append(_seconds(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}, line {number}: {line[:60]!r} is no arrival time: expected seconds, an "
                f"ISO 8601 time, or an object with one of {', '.join(COLUMNS)}"
            ) from error
    return np.array(times, dtype=np.float64)


def _seconds(value: Any) -> float:
    if isinstance(value, dict):
        name = next((each for each in COLUMNS if each in value), COLUMNS[0])
        return _seconds(value[name])
    if isinstance(value, str):
        return dt.datetime.fromisoformat(value).timestamp()
    if isinstance(value, bool):
        raise TypeError("a truth value is no time")
    return float(value)


def _from_parquet(path: Path) -> Array:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        name = next((each for each in COLUMNS if each in names), None)
        if name is None:
            raise UserError(f"{path}: has no column {' or '.join(COLUMNS)}; it has {names[:12]}")
        column = pq.read_table(path, columns=[name])[name]
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error
    if column.null_count:
        raise UserError(f"{path}: column {name!r} has {column.null_count} empty rows")
    if pa.types.is_timestamp(column.type):
        # To nanoseconds after the first: float64 seconds of the epoch are only good to 0.2 µs.
        stamps = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64()).to_numpy()
        since: Array = (stamps - stamps.min(initial=stamps[0] if len(stamps) else 0)) / 1e9
        return since
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise UserError(
            f"{path}: column {name!r} is of {column.type}; expected numbers (seconds) or timestamps"
        )
    return np.asarray(column.to_numpy(), dtype=np.float64)
