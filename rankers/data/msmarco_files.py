"""Lines of MS MARCO's files as judged pairs, with the line named where one is broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rankers.data.lines import stream_text
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Form = Literal["qrels", "top1000", "triples"]
_UNUSED = {"0", "Q0"}  # what stands in the second column of qrels


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a passage.

    Attributes:
        where: The file and line that name them.
        query: The query's ID; of triples, its text.
        passage: The passage's ID; of triples, its text.
        grade: 0 or more; of top1000, 0.
        texts: Both texts, where they stand in the same line.
    """

    where: str
    query: str
    passage: str
    grade: float
    texts: tuple[str, str] | None = None


def form_of(line: str) -> Form | None:
    """Return which of the files a line is from; None if from none."""
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) == 4 and fields[1] in _UNUSED and _grade(fields[3]) is not None:
        return "qrels"
    if "\t" not in line or " " not in fields[-1].strip():
        return None  # a passage has more than one word
    if len(fields) == 4 and not any(" " in each for each in fields[:2]):
        return "top1000"
    return "triples" if len(fields) == 3 and " " in fields[1].strip() else None


def stream_pairs(path: Path, form: Form) -> Iterator[Pair]:
    """Read a file line by line.

    Raises:
        UserError: A line is broken; the message names it.
    """
    for number, line in stream_text(path):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        if form == "qrels":
            yield _judged(where, line)
        elif form == "top1000":
            query, passage, *texts = _fields(where, line, "query ID, passage ID, query, passage")
            yield Pair(where, query, passage, 0.0, (texts[0], texts[1]))
        else:
            query, *passages = _fields(where, line, "query, relevant passage, other passage")
            for text, grade in zip(passages, (1.0, 0.0), strict=True):
                yield Pair(where, query, text, grade, (query, text))


def stream_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Read ``queries.tsv`` or ``collection.tsv``: an ID and a text on each line.

    Raises:
        UserError: A line is broken; the message names it.
    """
    for number, line in stream_text(path):
        if line.strip():
            identity, text = _fields(f"{path} line {number}", line, "ID, text")
            yield identity, text


def _fields(where: str, line: str, columns: str) -> list[str]:
    fields = line.split("\t")
    expected = columns.count(",") + 1
    if len(fields) != expected:
        raise UserError(
            f"{where}: {len(fields)} field(s) between tabs; expected {expected}: {columns}"
        )
    if not fields[0]:
        raise UserError(f"{where}: the first field is empty; expected {columns}")
    return fields


def _judged(where: str, line: str) -> Pair:
    fields = line.split()
    if len(fields) != 4:
        raise UserError(
            f"{where}: {len(fields)} field(s); expected 4: query ID, 0, passage ID, grade"
        )
    grade = _grade(fields[3])
    if grade is None:
        raise UserError(f"{where}: the grade is {fields[3]!r}; expected a whole number")
    return Pair(where, fields[0], fields[2], max(grade, 0.0))  # TREC's -1 and -2 are junk


def _grade(text: str) -> float | None:
    try:
        return float(int(text))
    except ValueError:
        return None
