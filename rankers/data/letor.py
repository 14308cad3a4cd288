"""Learning-to-rank files: SVMlight lines with grades, as LETOR, MSLR-WEB and LightGBM have them.

``2 qid:10 1:0.74 6:0.87 # a comment``: the grade, the query, and numbered features. Which lines are
of one query is said by ``qid:`` on every line, or by a file beside it that has the number of
documents of each query on a line of its own (``train.txt.query``, or ``train.txt.group``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankers.data.lines import stream_text
from rankers.data.log import RankingLog
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from pathlib import Path

    from rankers.requests import Array

FEATURES = "features"
_QUERY_SUFFIXES = (".query", ".group")


def is_letor(line: str) -> bool:
    """Return whether a line looks like a graded document: ``2 qid:1 1:0.5``."""
    fields = line.partition("#")[0].split()
    return len(fields) > 1 and all(":" in each for each in fields[1:]) and "," not in fields[0]


def read_letor(path: Path, *, features: int | None = None, rows: int | None = None) -> RankingLog:
    """Read a file to a log of one dense item feature, float32 ``[width]``; absent numbers are 0.

    Args:
        path: The file; plain or gzipped.
        features: How many features there are: the largest number in a file may not be the largest
            there is. By default the largest in this file.
        rows: How many documents to read at most; the last query is not cut.

    Returns:
        A log whose labels are grades and whose score kind is ``relevance``.

    Raises:
        UserError: A line is broken (the message names it), or queries are not told apart.
    """
    grades: list[float] = []
    queries: list[str] = []
    places: list[Array] = []
    values: list[Array] = []
    largest = 0
    for number, text in stream_text(path):
        body = text.partition("#")[0].split()
        if not body:
            continue
        where = f"{path} line {number}"
        grade, query, numbers, row = _parse(where, body)
        if queries and (query == "") != (queries[0] == ""):
            raise UserError(f"{where}: some lines have a qid: and this one is unlike the first")
        if rows is not None and len(grades) >= rows and (not query or query != queries[-1]):
            break
        grades.append(grade)
        queries.append(query)
        places.append(numbers)
        values.append(row)
        largest = max(largest, int(numbers[-1]) if len(numbers) else 0)
    if not grades:
        raise UserError(f"{path}: the file holds no documents")
    width = largest if features is None else features
    if largest > width:
        raise UserError(f"{path}: has a feature number {largest}, but {width} features were stated")
    offsets = _offsets(path, queries, cut=rows is not None)
    kept = int(offsets[-1])
    dense = np.zeros((kept, width), dtype=np.float32)
    for document in range(kept):
        dense[document, places[document] - 1] = values[document]
    return RankingLog(
        requests=RequestBatch(
            user={},
            items={FEATURES: dense},
            offsets=offsets,
            labels=np.array(grades[:kept], dtype=np.float32),
        ),
        signature=Signature((Feature(FEATURES, "float32", (width,)),), "relevance"),
    )


def _parse(where: str, body: list[str]) -> tuple[float, str, Array, Array]:
    """Return a line's grade, query (empty if it has none), feature numbers and values."""
    grade = _number(body[0])
    if grade is None or grade < 0:
        raise UserError(f"{where}: the grade is {body[0]!r}; expected a number of 0 or more")
    query = ""
    if len(body) > 1 and body[1].startswith("qid:"):
        query = body[1].removeprefix("qid:")
        if not query:
            raise UserError(f"{where}: qid: names no query")
        body = body[1:]
    numbers = np.empty(len(body) - 1, dtype=np.int64)
    values = np.empty(len(body) - 1, dtype=np.float32)
    last = 0
    for place, pair in enumerate(body[1:]):
        left, _, right = pair.partition(":")
        value = _number(right)
        if not left.isdecimal() or value is None:
            raise UserError(f"{where}: {pair!r} is not a feature; expected number:value")
        if int(left) <= last:
            raise UserError(
                f"{where}: feature number {left} follows {last}; numbers start at 1 and ascend"
            )
        numbers[place] = last = int(left)
        values[place] = value
    return grade, query, numbers, values


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _offsets(path: Path, queries: list[str], *, cut: bool) -> Array:
    """Return where queries begin and end, int64 ``[R + 1]``."""
    if queries[0]:
        changes = [
            place for place in range(1, len(queries)) if queries[place] != queries[place - 1]
        ]
        starts = [0, *changes]
        seen: set[str] = set()
        for start in starts:
            if queries[start] in seen:
                raise UserError(
                    f"{path}: the lines of qid:{queries[start]} do not stand together; sort them"
                )
            seen.add(queries[start])
        return np.array([*starts, len(queries)], dtype=np.int64)
    beside = [path.with_name(path.name + suffix) for suffix in _QUERY_SUFFIXES]
    file = next((each for each in beside if each.is_file()), None)
    if file is None:
        raise UserError(
            f"{path}: lines have no qid:, and there is no {beside[0].name} beside it with the "
            "number of documents of each query"
        )
    ends = [0]
    for number, text in stream_text(file):
        if not text.strip():
            continue
        if not text.strip().isdecimal() or int(text) < 1:
            raise UserError(
                f"{file} line {number}: {text!r} is not a number of documents; expected 1 or more"
            )
        ends.append(ends[-1] + int(text))
    if ends[-1] != len(queries) and not cut:
        raise UserError(
            f"{file}: its queries have {ends[-1]} documents in all, but {path} has {len(queries)}"
        )
    whole = [each for each in ends if each <= len(queries)]
    if len(whole) < 2:
        raise UserError(f"{path}: the rows asked for do not hold the first query, of {ends[1]}")
    return np.array(whole, dtype=np.int64)
