"""A width for each table, by what it does to scores: the most bytes for the least change.

Each table is tried at each width alone, with the rest as they are, on requests drawn from the
signature, their IDs as often as training met them if that is known. No labels are read, and nothing
of the evaluation.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.tables.quantize import bytes_at, fitting_width, levels_of, rounded
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from optimize.flat_graph import FlatGraph
    from optimize.tables.program import Table
    from optimize.tables.quantize import Width

_LADDER: tuple[Width, ...] = ("fp16", "int8", "int4")


@dataclass(frozen=True, slots=True)
class Trial:
    """A table at a width, the others as they were.

    Attributes:
        table: Its name.
        width: The width.
        bytes: It then has.
        score_change: The mean change of a score, as a share of the scores' standard deviation.
    """

    table: str
    width: Width
    bytes: int
    score_change: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and on what grounds.

    Attributes:
        widths: By table; one that is missing stays as it is.
        trials: Each table at each width.
        bytes_ratio: Bytes of all tables, of what they had.
        score_change: Measured with all of them at once; see `Trial`.
    """

    widths: dict[str, Width]
    trials: tuple[Trial, ...]
    bytes_ratio: float
    score_change: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"tables to {self.bytes_ratio:.1%} of their bytes; scores change by "
            f"{self.score_change:.2%} of their spread"
        )


def choose_widths(
    graph: FlatGraph,
    tables: Sequence[Table],
    left: Mapping[str, str],
    columns: Mapping[str, Tensor],
    *,
    max_bytes_ratio: float = 0.0,
    max_score_change: float = 0.0,
) -> Choice:
    """Choose greedily: the step that changes scores least for a byte, until the budget is met.

    Changes by several tables are taken to add up like independent errors. Under a quality budget
    the choice is measured as a whole, and steps are taken back until it holds.

    Args:
        graph: It is changed while widths are tried, and as it was afterwards.
        tables: All of its tables.
        left: Those that stay, by name.
        columns: What scores are compared on.
        max_bytes_ratio: Bytes of all tables may be this share of what they are at most.
        max_score_change: Or scores may change so much at most; see `Trial`.

    Raises:
        UserError: The byte budget cannot be met; the message says what can.
    """
    scores = _Scores(graph, columns)
    free = [each for each in tables if each.name not in left]
    trials = {each.name: _trials(scores, each) for each in free}
    before = {each.name: each.bytes for each in tables}
    now: dict[str, Trial] = {}
    taken: list[tuple[str, Trial | None]] = []
    while max_score_change or _ratio(before, now) > max_bytes_ratio:
        step = _cheapest(before, trials, now, max_score_change)
        if step is None:
            break
        taken.append((step.table, now.get(step.table)))
        now[step.table] = step
    if not max_score_change and _ratio(before, now) > max_bytes_ratio:
        raise UserError(
            f"tables cannot be held in {max_bytes_ratio:.1%} of their bytes: in the narrowest "
            f"widths they take {_ratio(before, now):.1%}"
        )
    change = scores.change(free, now)
    while max_score_change and taken and change > max_score_change:
        name, was = taken.pop()
        if was is None:
            del now[name]
        else:
            now[name] = was
        change = scores.change(free, now)
    return Choice(
        widths={name: each.width for name, each in now.items()},
        trials=tuple(each for name in trials for each in trials[name]),
        bytes_ratio=_ratio(before, now),
        score_change=change,
    )


class _Scores:
    """A graph's scores on some columns, and how far they go from what they were."""

    def __init__(self, graph: FlatGraph, columns: Mapping[str, Tensor]) -> None:
        self._graph, self._columns = graph, columns
        self._before = graph.score(columns).double()
        self._spread = max(float(self._before.std()), torch.finfo(torch.float32).tiny)

    def change(self, tables: Sequence[Table], chosen: Mapping[str, Trial]) -> float:
        """Return the mean change with some tables at other widths."""
        those = [each for each in tables if each.name in chosen]
        widths = {each.name: chosen[each.name].width for each in those}
        scales = levels_of(those, widths)
        with _as_rounded({x: rounded(x.weight, widths[x.name], scales) for x in those}):
            after = self._graph.score(self._columns).double()
        return float((after - self._before).abs().mean()) / self._spread


def _trials(scores: _Scores, table: Table) -> list[Trial]:
    """Try a table at each width that takes fewer bytes than the one before it."""
    found: list[Trial] = []
    least = table.bytes
    for width in _LADDER:
        size = bytes_at(table.weight, width)
        if fitting_width(table.weight, width) != width or size >= least:
            continue
        trial = Trial(table.name, width, size, 0.0)
        change = scores.change([table], {table.name: trial})
        found.append(Trial(table.name, width, size, change))
        least = size
    return found


def _cheapest(
    before: Mapping[str, int],
    trials: Mapping[str, list[Trial]],
    now: Mapping[str, Trial],
    max_score_change: float,
) -> Trial | None:
    """Return the step that adds least to the squared change for each byte that it saves."""
    total = sum(each.score_change**2 for each in now.values())
    best, least = None, math.inf
    for name, each in trials.items():
        at = now.get(name)
        size, change = (before[name], 0.0) if at is None else (at.bytes, at.score_change)
        for trial in each:
            added = trial.score_change**2 - change**2
            if trial.bytes >= size:
                continue
            if max_score_change and total + added > max_score_change**2:
                continue
            price = added / (size - trial.bytes)
            if price < least:
                best, least = trial, price
    return best


def _ratio(before: Mapping[str, int], now: Mapping[str, Trial]) -> float:
    after = sum(now[name].bytes if name in now else size for name, size in before.items())
    return after / max(1, sum(before.values()))


@contextmanager
def _as_rounded(tables: Mapping[Table, Tensor]) -> Iterator[None]:
    """Let tables hold other values for a while."""
    kept = {each: each.weight.clone() for each in tables}
    try:
        for each, values in tables.items():
            each.weight.copy_(values)
        yield
    finally:
        for each, values in kept.items():
            each.weight.copy_(values)
