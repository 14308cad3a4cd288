"""Criteo's display-advertising files: a label, 13 counts, 26 categories in hexadecimal.

Read as they come: tab-separated without a header (the Kaggle and Terabyte files), comma-separated
with one, plain or gzipped, values missing. Counts become ``log1p``; those below 0 and missing ones
count as 0. Categories are hashed to IDs from 1; ID 0 is a missing value.

The files say neither which columns are the user's nor which rows were shown together. So every
feature is on the item side, and requests are runs of consecutive rows, of sizes drawn with a seed.
Source: https://www.kaggle.com/c/criteo-display-ad-challenge/data
"""

from __future__ import annotations

import gzip
import math
import zlib
from typing import IO, TYPE_CHECKING

import numpy as np

from rankers.data.log import CATEGORIES, COUNTS, ClickLog, candidate_counts, click_signature
from rankers.errors import UserError
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankers.features import Signature
    from rankers.requests import Array, Columns

BUCKETS = 20_000
CHUNK_ROWS = 50_000
_COLUMNS = ("label", *COUNTS, *CATEGORIES)
_GZIP_MAGIC = b"\x1f\x8b"


def criteo_signature(buckets: int = BUCKETS) -> Signature:
    """Return the features that `read_criteo` gives: ``dense`` and ``C1`` … ``C26``, all items'."""
    return click_signature(dict.fromkeys(CATEGORIES, buckets))


def read_criteo(path: Path, *, buckets: int = BUCKETS, seed: int = 0) -> ClickLog:
    """Read a whole file as a log of requests.

    Args:
        path: A Criteo file, gzipped or not.
        buckets: IDs of each category, the missing one among them.
        seed: Of the requests' sizes.

    Raises:
        UserError: The file is missing or empty, or a line is broken: the message names the line.
    """
    chunks = list(criteo_chunks(path, buckets=buckets))
    if not chunks:
        raise UserError(f"{path}: holds no rows")
    labels = np.concatenate([labels for labels, _ in chunks])
    items = {
        name: np.concatenate([columns[name] for _, columns in chunks]) for name in chunks[0][1]
    }
    offsets = _request_offsets(len(labels), seed)
    return ClickLog(
        requests=RequestBatch(user={}, items=items, offsets=offsets, labels=labels),
        signature=criteo_signature(buckets),
    )


def criteo_chunks(
    path: Path, *, buckets: int = BUCKETS, rows: int = CHUNK_ROWS
) -> Iterator[tuple[Array, Columns]]:
    """Read a file piece by piece, in memory that does not grow with it.

    Args:
        path: A Criteo file, gzipped or not.
        buckets: IDs of each category, the missing one among them.
        rows: Of a piece.

    Yields:
        Labels float32 ``[rows]`` and columns: ``dense`` float32 ``[rows, 13]``, ``C1`` … ``C26``
        int64 ``[rows]``.

    Raises:
        UserError: The file cannot be read, or a line is broken: the message names the line.
    """
    if buckets < 2:
        raise UserError(f"{buckets} buckets were asked for; 2 or more are needed")
    try:
        with _open(path) as lines:
            yield from _parse(path, lines, buckets, rows)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _open(path: Path) -> IO[str]:
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP_MAGIC
    # A byte that is no text becomes a character that no field takes, so that its line is named.
    if zipped:
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _parse(path: Path, lines: IO[str], buckets: int, rows: int) -> Iterator[tuple[Array, Columns]]:
    labels: list[float] = []
    counts: list[list[float]] = []
    categories: list[list[int]] = []
    separator = "\t"
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if number == 1:
            separator = "\t" if "\t" in text else ","
            if text.split(separator)[0].strip().lower() == "label":
                _check_header(path, text.split(separator))
                continue
        fields = text.split(separator)
        try:
            label, dense, ids = _row(fields, buckets)
        except ValueError as error:
            raise UserError(f"{path} line {number}: {error}") from None
        labels.append(label)
        counts.append(dense)
        categories.append(ids)
        if len(labels) == rows:
            yield _columns(labels, counts, categories)
            labels, counts, categories = [], [], []
    if labels:
        yield _columns(labels, counts, categories)


def _check_header(path: Path, names: list[str]) -> None:
    if tuple(name.strip() for name in names) != _COLUMNS:
        raise UserError(
            f"{path} line 1: the header is not label, I1 … I13, C1 … C26 (40 columns), but has "
            f"{len(names)}: {', '.join(names[:4])}, …"
        )


def _row(fields: list[str], buckets: int) -> tuple[float, list[float], list[int]]:
    """Read one row; a ValueError says what is wrong with it."""
    if len(fields) != len(_COLUMNS):
        raise ValueError(f"{len(fields)} columns; expected {len(_COLUMNS)}")
    if fields[0] not in {"0", "1", "0.0", "1.0"}:
        raise ValueError(f"the label is {fields[0]!r}; expected 0 or 1")
    dense = [_count(name, field) for name, field in zip(COUNTS, fields[1:14], strict=True)]
    ids = [_id(name, field, buckets) for name, field in zip(CATEGORIES, fields[14:], strict=True)]
    return float(fields[0]), dense, ids


def _count(name: str, field: str) -> float:
    if not field:
        return 0.0
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} is {field!r}; expected a number or nothing")
    return math.log1p(max(value, 0.0))


def _id(name: str, field: str, buckets: int) -> int:
    if not field:
        return 0
    try:
        # The values are hashes already: their remainder spreads them evenly.
        return 1 + int(field, 16) % (buckets - 1)
    except ValueError:
        raise ValueError(f"{name} is {field!r}; expected hexadecimal digits or nothing") from None


def _columns(
    labels: list[float], counts: list[list[float]], categories: list[list[int]]
) -> tuple[Array, Columns]:
    ids = np.array(categories, dtype=np.int64).T  # [26, rows]
    columns: Columns = {"dense": np.array(counts, dtype=np.float32)}
    columns |= {name: np.ascontiguousarray(ids[place]) for place, name in enumerate(CATEGORIES)}
    return np.array(labels, dtype=np.float32), columns


def _request_offsets(rows: int, seed: int) -> Array:
    """Cut rows into runs of 20 to 700; what remains at the end is a run of its own."""
    generator = np.random.default_rng(seed)
    sizes = candidate_counts(generator, max(2, rows // 20))
    ends = np.cumsum(sizes)
    inner = ends[ends < rows]
    return np.concatenate([[0], inner, [rows]]).astype(np.int64)
