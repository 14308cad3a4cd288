"""The split program against the flat one, on requests of several users and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

    from optimize.flat_graph import FlatGraph

# Users and their numbers of candidates: one user, several of unequal numbers, one candidate.
_REQUESTS = ((5,), (1,), (4, 1, 7, 2), (1, 1, 1))
# Kernels differ between shapes in the last bits, and sums are taken in another order.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def check_split(
    program: ExportedProgram,
    graph: FlatGraph,
    module: GraphModule,
    frontier: Mapping[Node, Node],
) -> None:
    """Compare scores, and on a difference say whose fault it is.

    Args:
        program: The flat program as it came.
        graph: The rewritten flat graph.
        module: The split of ``graph``.
        frontier: The values that the split repeats, and the nodes that repeat them.

    Raises:
        UserError: A value of the user's side depends on the other users of its batch; its operator
            is named.
    """
    flat = program.module(check_guards=False)
    for counts in _REQUESTS:
        users, items = graph.sample(len(counts)), graph.sample(sum(counts))
        index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        columns = [
            users[name][index] if name in graph.user else items[name] for name in graph.names
        ]
        apart = [(users if name in graph.user else items)[name] for name in graph.names]
        with torch.no_grad():
            expected = flat(*columns)
            (scores,) = module(*apart, index)
        if not _same(scores, expected):
            _blame(graph, module, frontier, columns, [*apart, index])
            difference = float((scores - expected).abs().max())
            raise UserError(
                f"with the user's part computed once scores differ by {difference:.2g} for "
                f"{counts} candidates: the program depends on its batch; it stays flat"
            )


def _blame(
    graph: FlatGraph,
    module: GraphModule,
    frontier: Mapping[Node, Node],
    flat_columns: list[Tensor],
    columns: list[Tensor],
) -> None:
    """Name the first of the user's values that is another when computed once."""
    from optimize.diagnosis.trace import place_of

    flat = _values(graph.module, flat_columns)
    once = _values(module, columns)
    for node, repeated in frontier.items():
        if not _same(once[repeated], flat[node]):
            raise UserError(
                f"the user's part cannot be computed once a request: at {place_of(node)} a "
                "user's values depend on the other rows of the batch"
            )


def _values(module: GraphModule, columns: list[Tensor]) -> dict[Node, Any]:
    values: dict[Node, Any] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    with torch.no_grad():
        Recorder(module).run(*columns)
    return values


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not other.is_floating_point():
        return bool(torch.equal(one, other))
    tolerance = _TOLERANCE.get(other.dtype, 1e-2)
    scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
    return bool(torch.allclose(one, other, rtol=tolerance, atol=tolerance * scale, equal_nan=True))
