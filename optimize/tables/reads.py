"""How often calibration requests read each row of a table, and how far scores follow a row.

One pass forwards and one back over the requests; no labels. Slopes are taken as in
`optimize.pruning.statistics`: along a logit, weighted by what a move of it costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optimize.pruning.statistics import score_slopes
from optimize.tables.program import lookup_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.fx import Node

    from optimize.artifact import Manifest
    from optimize.flat_graph import FlatGraph
    from optimize.tables.program import Table
    from rankers.requests import RequestBatch

_CHUNK_ROWS = 1024
# Of all reads, what rows that no request read are taken to get at least, and at most.
_LEAST_UNREAD, _MOST_UNREAD = 0.01, 0.5
# Directions of a row that no score follows on these requests still count so much of the mean.
_LEAST_SLOPE = 1e-3


@dataclass(frozen=True)
class TableReads:
    """Of one table of D columns.

    Attributes:
        share: Of all reads that each row is taken to get, float64 ``[rows]``; above 0, sum 1.
        slopes: Mean over scored candidates of the sum of ``g gᵀ`` over the reads of the table, with
            ``g [D]`` the slope of a score along what was read: float64 ``[D, D]``, regular.
        read_rows: How many rows were read.
    """

    share: Tensor
    slopes: Tensor
    read_rows: int

    def score_error(self, covariance: Tensor) -> float:
        """Return the mean square by which scores move, if errors of rows are no pattern.

        Args:
            covariance: Mean of ``δ δᵀ`` over reads, with ``δ [D]`` a row's error: ``[D, D]``.
        """
        return float((self.slopes * covariance).sum())


def table_reads(
    graph: FlatGraph, tables: Sequence[Table], requests: RequestBatch, manifest: Manifest
) -> dict[str, TableReads]:
    """Look at what is read of tables, by their names.

    Rows of zeros are not counted: they stand for empty places, and cost nothing.

    Args:
        graph: Of the manifest's layout.
        tables: Of the graph.
        requests: To learn from.
        manifest: Knows the layout, and what a score means.
    """
    if not tables:
        return {}
    counts = {each.name: torch.zeros(2, len(each.weight), dtype=torch.int64) for each in tables}
    slopes = {
        x.name: torch.zeros(x.weight.shape[1], x.weight.shape[1], dtype=torch.float64)
        for x in tables
    }
    owners = {node: each for each in tables for node in each.lookups}
    random = torch.Generator().manual_seed(0)
    scored = 0
    for half, part in enumerate(_halves(requests)):
        for chunk in part.chunks(_CHUNK_ROWS):
            scores, rows = _run(graph, chunk, manifest, [*owners])
            # A user's row moves all of their candidates' scores: with random signs the square of
            # the sum is the sum of squares, on average.
            signs = torch.randint(0, 2, scores.shape, generator=random) * 2 - 1
            found = score_slopes(scores, manifest, [value for _, _, value in rows], signs)
            scored += len(scores)
            for (node, ids, _), slope in zip(rows, found, strict=True):
                table = owners[node]
                flat = ids.reshape(-1).long()
                real = table.weight[flat].any(dim=1)
                counts[table.name][half] += torch.bincount(flat[real], minlength=len(table.weight))
                each = slope.reshape(-1, slope.shape[-1])[real].double()
                slopes[table.name] += each.T @ each
    return {
        each.name: TableReads(
            share=read_share(*counts[each.name]),
            slopes=_regular(slopes[each.name] / max(1, scored)),
            read_rows=int((counts[each.name].sum(0) > 0).sum()),
        )
        for each in tables
    }


def read_share(first: Tensor, second: Tensor) -> Tensor:
    """Return the share of reads that each row gets, float64 ``[rows]``, no row without any.

    What one half of the requests reads of rows that the other does not is what rows that neither
    reads are taken to get together.

    Args:
        first: How often some requests read each row, int64 ``[rows]``.
        second: How often as many others did.
    """
    counts = (first + second).double()
    unread = counts == 0
    if bool(unread.all()):
        return torch.full_like(counts, 1 / len(counts))
    if not bool(unread.any()):
        return counts / counts.sum()
    new = int(second[first == 0].sum()) + int(first[second == 0].sum())
    mass = min(max(new / float(counts.sum()), _LEAST_UNREAD), _MOST_UNREAD)
    share = counts * (1 - mass) / counts.sum()
    share[unread] = mass / int(unread.sum())
    return share


def _halves(requests: RequestBatch) -> list[RequestBatch]:
    numbers = np.arange(len(requests))
    return [requests.select(x) for x in (numbers[::2], numbers[1::2]) if len(x)]


def _run(
    graph: FlatGraph, requests: RequestBatch, manifest: Manifest, lookups: Sequence[Node]
) -> tuple[Tensor, list[tuple[Node, Tensor, Tensor]]]:
    """Score requests; return each lookup's IDs and rows too, the rows with a slope."""
    columns = manifest.columns_of(requests)
    rows: list[tuple[Node, Tensor, Tensor]] = []
    ids_of = {node: lookup_ids(node) for node in lookups}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in ids_of:
                value = value.detach().requires_grad_()
                rows.append((n, self.env[ids_of[n]], value))
            return value

    with torch.enable_grad():
        found: Any = Recorder(graph.module, garbage_collect_values=False).run(
            *(torch.from_numpy(np.ascontiguousarray(columns[name])) for name in graph.names)
        )
    scores: Tensor = found[0] if isinstance(found, tuple | list) else found
    return scores.reshape(-1), rows


def _regular(slopes: Tensor) -> Tensor:
    """Return a matrix of slopes in which every direction counts."""
    least = _LEAST_SLOPE * float(slopes.diagonal().mean()) or 1.0
    return slopes + least * torch.eye(len(slopes), dtype=slopes.dtype)
