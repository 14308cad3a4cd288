"""At which operators something begins: where rows first mix, where chance or place comes in.

Each is found by experiment on the graph's own values: nothing is told from an operator's name, so
an attention between rows written by hand is found like a softmax over the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.diagnosis.trace import tensors
from optimize.export import SAMPLE_ROWS, evaluation_rows

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor
    from torch.fx import Node

    from optimize.diagnosis.trace import Trace
    from rankers.ranker import Ranker
    from rankers.requests import Columns

# Rows that are exchanged one by one, and how many times each: a maximum over the batch moves only
# when the row that holds it does.
_EXCHANGED_ROWS = 6
_EXCHANGES = 2
_SAME = 1e-4


def where_rows_mix(trace: Trace, ranker: Ranker) -> list[Node]:
    """Find the operators whose result first depends on several rows, on the way to the score.

    One row at a time is exchanged. Where rows are independent, each element of each value belongs
    to one row, wherever that row's dimension is: it changes with that row alone. An element that
    changes with two different rows mixes them.
    """
    import torch

    random = np.random.default_rng(0)
    base = spread_rows(ranker, SAMPLE_ROWS)
    before = _seeded(trace, base)
    changes: dict[Node, list[Tensor]] = {}
    resized: set[Node] = set()
    for row in range(_EXCHANGED_ROWS):
        changed: dict[Node, list[Tensor]] = {}
        for _ in range(_EXCHANGES):
            other = evaluation_rows(ranker, random.integers(ranker.evaluation.rows, size=1))
            after = _seeded(trace, _exchanged(base, row, other))
            for node, value in before.items():
                masks = _differences(value, after[node])
                if masks is None:
                    resized.add(node)
                    continue
                old = changed.get(node)
                changed[node] = masks if old is None else _either(old, masks)
        for node, masks in changed.items():
            counts = changes.setdefault(node, [torch.zeros(each.shape) for each in masks])
            changes[node] = [total + mask for total, mask in zip(counts, masks, strict=True)]
    mixing = {node for node, counts in changes.items() if any((each > 1).any() for each in counts)}
    return _origins(trace, mixing | resized)


def where_chance_comes_in(trace: Trace, ranker: Ranker) -> list[Node]:
    """Find the operators that give something else each time, on the way to the score."""
    base = spread_rows(ranker, SAMPLE_ROWS)
    first, second = (_seeded(trace, base, seed) for seed in (0, 1))
    differing = {node for node, value in first.items() if _differ(value, second[node])}
    return _origins(trace, differing)


def where_place_matters(trace: Trace, ranker: Ranker) -> list[Node]:
    """Find the first operator that treats a row by its place in the batch."""
    base = spread_rows(ranker, SAMPLE_ROWS)
    order = np.roll(np.arange(SAMPLE_ROWS), 1)
    one = _seeded(trace, base)
    other = _seeded(trace, {name: column[order] for name, column in base.items()})
    return _first_unlike(trace, one, other, order)


def where_size_matters(trace: Trace, ranker: Ranker) -> list[Node]:
    """Find the first operator that treats a row differently when it is alone."""
    if not trace.any_rows:
        return []
    base = spread_rows(ranker, SAMPLE_ROWS)
    alone = _seeded(trace, {name: column[:1] for name, column in base.items()})
    return _first_unlike(trace, _seeded(trace, base), alone, np.zeros(1, dtype=np.int64))


def spread_rows(ranker: Ranker, rows: int) -> Columns:
    """Return evaluation rows from all over the requests, ``[rows, …]`` each."""
    places = np.linspace(0, ranker.evaluation.rows - 1, rows).astype(np.int64)
    return evaluation_rows(ranker, places)


def _seeded(trace: Trace, columns: Columns, seed: int = 0) -> dict[Node, Any]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return trace.run(columns)


def _exchanged(columns: Columns, row: int, other: Columns) -> Columns:
    """Return the columns with one row exchanged."""
    changed = {name: column.copy() for name, column in columns.items()}
    for name, column in changed.items():
        column[row] = other[name][0]
    return changed


def _differences(one: Any, other: Any) -> list[Tensor] | None:
    """Return which elements differ in the last bit, for each tensor; None if shapes do."""
    import torch

    pairs = list(zip(tensors(one), tensors(other), strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return None
    if not pairs:
        return [torch.tensor(bool(one != other))] if isinstance(one, int | float) else []
    return [(a != b) & ~((a != a) & (b != b)) for a, b in pairs]  # noqa: PLR0124 - NaN


def _either(one: list[Tensor], other: list[Tensor]) -> list[Tensor]:
    return [a | b for a, b in zip(one, other, strict=True)]


def _differ(one: Any, other: Any) -> bool:
    masks = _differences(one, other)
    return masks is None or any(bool(mask.any()) for mask in masks)


def _origins(trace: Trace, nodes: Collection[Node]) -> list[Node]:
    """Walk back from the score along the given nodes to those that read none of them."""
    found: list[Node] = []
    seen: set[Node] = set()
    waiting = [trace.score]
    while waiting:
        node = waiting.pop()
        if node in seen or node not in nodes:
            continue
        seen.add(node)
        # Not the buffers that an operator writes to: it is where the change begins.
        before = [x for x in node.all_input_nodes if x in nodes and x.op == "call_function"]
        if not before:
            found.append(node)
        waiting.extend(before)
    order = {node: place for place, node in enumerate(trace.nodes)}
    return sorted(found, key=order.__getitem__)


def _first_unlike(
    trace: Trace, one: dict[Node, Any], other: dict[Node, Any], order: np.ndarray
) -> list[Node]:
    """Find the first operator whose rows of ``one``, taken in ``order``, are not those of other.

    Only values with a row in each place of their first dimension can be compared so.
    """
    import torch

    for node in trace.operators:
        value, against = one[node], other[node]
        if not isinstance(value, torch.Tensor) or value.dim() == 0 or value.is_complex():
            continue
        if len(value) != SAMPLE_ROWS or len(against) != len(order):
            continue
        expected = value[torch.from_numpy(order)]
        if expected.shape != against.shape or not torch.allclose(
            expected.double(), against.double(), rtol=_SAME, atol=_SAME, equal_nan=True
        ):
            return [node]
    return []
