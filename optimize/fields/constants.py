"""What may stand in a feature's place: of several constants the one that scores mind least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from optimize.fields.reading import frontier, score_with
from optimize.partial import values_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph
    from rankers.features import Feature
    from rankers.requests import Array, RequestBatch

Kind = Literal["mean of what is made of it", "most frequent", "mean", "empty"]
_CHUNK_ROWS = 8192


@dataclass(frozen=True, eq=False)
class Constant:
    """One thing that stands in a feature's place.

    Attributes:
        feature: Whose.
        kind: What it is.
        values: By node of the feature's frontier the value of any row, ``[1, …]``.
        change: The mean change of a score, as a share of the scores' spread.
    """

    feature: str
    kind: Kind
    values: Mapping[Node, Tensor]
    change: float


def constants(
    graph: FlatGraph, feature: Feature, requests: RequestBatch, reference: Array
) -> list[Constant]:
    """Return what may stand in a feature's place, what scores mind least first.

    - the mean, over the candidates, of what the program makes of it before it meets another
      feature: of an ID the mean of the looked-up rows;
    - the most frequent value;
    - of numbers their mean;
    - of bags and histories none at all.

    Args:
        graph: Flat.
        feature: One of its features.
        requests: Calibration requests.
        reference: What the program scores on them, ``[ΣN]``.

    Returns:
        Empty if the program does not read it row by row, or all of them make scores that are not
        finite.
    """
    nodes = frontier(graph, feature.name)
    column, weights = _column(feature, requests)
    spread = max(float(np.std(reference)), 1e-12)
    found = []
    for kind, values in _values(graph, nodes, feature, column, weights):
        if not all(_is_row(each) for each in values.values()):
            continue
        scores = score_with(graph, requests, [values])
        if np.isfinite(scores).all():
            change = float(np.abs(scores.astype(np.float64) - reference).mean()) / spread
            found.append(Constant(feature.name, kind, values, change))
    return sorted(found, key=lambda each: each.change)


def _column(feature: Feature, requests: RequestBatch) -> tuple[Tensor, Array]:
    """Return a feature's rows as they are held, and how many candidates each is of."""
    if feature.side == "user":
        column, weights = requests.user[feature.name], requests.candidates
    else:
        column, weights = requests.items[feature.name], np.ones(requests.rows, np.int64)
    return torch.from_numpy(np.ascontiguousarray(column)), weights


def _values(
    graph: FlatGraph, nodes: list[Node], feature: Feature, column: Tensor, weights: Array
) -> Iterator[tuple[Kind, dict[Node, Tensor]]]:
    means = _means(graph, nodes, feature.name, column, weights)
    if means is not None:
        yield "mean of what is made of it", means
    rows: list[tuple[Kind, Tensor]] = [("most frequent", _most_frequent(column, weights))]
    if feature.padding is not None:
        rows.append(("empty", torch.full_like(column[:1], feature.padding)))
    if column.is_floating_point():
        share = torch.from_numpy(weights / weights.sum()).reshape(-1, *[1] * (column.dim() - 1))
        rows.append(("mean", (column.double() * share).sum(0, keepdim=True).to(column.dtype)))
    for kind, row in rows:
        yield kind, values_of(graph, nodes, feature.name, row)


def _means(
    graph: FlatGraph, nodes: list[Node], feature: str, column: Tensor, weights: Array
) -> dict[Node, Tensor] | None:
    """Return the mean of each node's rows; None if one has no rows of floats."""
    sums: dict[Node, Tensor] = {}
    types: dict[Node, torch.dtype] = {}
    for start in range(0, len(column), _CHUNK_ROWS):
        part = column[start : start + _CHUNK_ROWS]
        share = torch.from_numpy(weights[start : start + len(part)]).double()
        for node, value in values_of(graph, nodes, feature, part).items():
            if not (
                isinstance(value, torch.Tensor)
                and value.is_floating_point()
                and value.dim() > 0
                and len(value) == len(part)
            ):
                return None
            summed = torch.tensordot(share, value.double(), dims=1)[None]
            sums[node] = sums[node] + summed if node in sums else summed
            types[node] = value.dtype
    total = float(weights.sum())
    return {node: (each / total).to(types[node]) for node, each in sums.items()}


def _most_frequent(column: Tensor, weights: Array) -> Tensor:
    """Return the row that most candidates have, ``[1, …]``; of rows as frequent the least."""
    rows, which = torch.unique(column, dim=0, return_inverse=True)
    counts = torch.zeros(len(rows), dtype=torch.int64)
    counts.index_add_(0, which, torch.from_numpy(weights.astype(np.int64)))
    found: Tensor = rows[counts.argmax()][None]
    return found


def _is_row(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == 1
