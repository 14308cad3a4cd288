"""From a flat program to one that takes requests as they are: the user's rows once.

Nothing is taken on trust: where rows are is seen by running the graph, the new program is compared
with the old one on requests of several users and sizes, and an operator of the user's side that
mixes rows is found and named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import FlatGraph, export_module, flat_graph
from optimize.lookups import unfold_bags
from optimize.user_once.account import Account, account_of
from optimize.user_once.cost import Request
from optimize.user_once.normalize import normalize
from optimize.user_once.rewrites.attention import unfold_attention
from optimize.user_once.rewrites.concats import flatten_stacks, group_concats
from optimize.user_once.rewrites.dots import split_dots
from optimize.user_once.rewrites.gates import shorten_gates
from optimize.user_once.rewrites.linear_layers import split_linear_layers
from optimize.user_once.rewrites.scalars import add_scalar_biases
from optimize.user_once.rewrites.standardized_gates import fold_standardized_gates
from optimize.user_once.rewrites.sums import multiply_weighted_sums, split_sums
from optimize.user_once.split import split, splittable_sides
from optimize.user_once.verify import check_split
from rankers.errors import UserError
from rankers.requests import ITEM_TO_REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor
    from torch.export import ExportedProgram

# In the order in which they are tried: each finds more after those before it.
REWRITES = {
    "attention": unfold_attention,
    "dots": split_dots,
    "stacks": flatten_stacks,
    "sums": split_sums,
    "standardized_gates": fold_standardized_gates,
    "linear_layers": split_linear_layers,
    "weighted_sums": multiply_weighted_sums,
    "scalar_biases": add_scalar_biases,
    "gates": shorten_gates,
    "concats": group_concats,
}
# A program that is not expected to take less than this share of the flat one's time is not worth
# another signature.
_WORTH = 0.98
# Two sizes of the sample that is traced, which no shape in a ranker is likely to have by itself.
_SAMPLE_REQUESTS, _SAMPLE_ROWS = 3, 11


@dataclass(frozen=True)
class Rewritten:
    """What came of it.

    Attributes:
        program: From the user's columns ``[R, …]``, the items' ``[ΣN, …]`` in the signature's
            order and ``item_to_request`` int64 ``[ΣN]`` to scores ``[ΣN]``; None if the flat
            program stays.
        reason: Why it stays, or what was gained, in one line.
        rewrites: What the rewrites did, by their name.
        frontier: The values that are repeated, by the column or the operator that makes them.
        before: What a request took, and the flat graph's picture; None if it could not be read.
        after: What it takes; None if the flat program stays without a try.
        candidates: Of the request that this is reckoned for.
    """

    program: ExportedProgram | None
    reason: str
    rewrites: dict[str, list[str]] = field(default_factory=dict)
    frontier: tuple[str, ...] = ()
    before: Account | None = None
    after: Account | None = None
    candidates: int = 200

    def to_json(self) -> dict[str, Any]:
        """Return all but the program as JSON-ready data."""
        return {
            "rewritten": self.program is not None,
            "reason": self.reason,
            "candidates": self.candidates,
            "rewrites": self.rewrites,
            "frontier": list(self.frontier),
            "before": None if self.before is None else self.before.to_json(),
            "after": None if self.after is None else self.after.to_json(),
        }


def rewrite_user_once(
    program: ExportedProgram,
    names: Sequence[str],
    user: Sequence[str],
    sample: Callable[[int], Mapping[str, Tensor]],
    *,
    candidates: int = 200,
    rewrites: Sequence[str] = tuple(REWRITES),
    always: bool = False,
) -> Rewritten:
    """Rewrite a flat program.

    Args:
        program: From columns by position, ``[rows, …]`` each, to scores ``[rows]``.
        names: Of the columns.
        user: Those of the user's side.
        sample: Gives valid columns of any number of rows, ``[rows, …]`` by name.
        candidates: The number of candidates that costs are reckoned for.
        rewrites: Which of `REWRITES` to try.
        always: Rewrite even if it is not expected to pay.

    Raises:
        UserError: The user's part has an operator that mixes rows, and so cannot be computed once
            for each of several users; it is named. Or a feature has the name of the index.
    """
    if ITEM_TO_REQUEST in names:
        raise UserError(
            f"a feature is called {ITEM_TO_REQUEST!r}, which is what says whose a candidate is: "
            "give it another name"
        )
    graph = _open(program, names, user, sample)
    request = Request(candidates)
    before = account_of(graph, graph.sides(), request, once=False)
    if not user or len(user) == len(names):
        side = "user" if user else "item"
        reason = f"kept flat: every feature is the {side}'s: nothing to compute once"
        return Rewritten(None, reason, before=before, candidates=candidates)
    done = rewrite(graph, request, rewrites)
    sides = splittable_sides(graph)
    after = account_of(graph, sides, request, once=True)
    left = after.work.seconds / before.work.seconds
    said = f"{left:.0%} of the flat program's work is left for {request.text}, by the cost model"
    if left > _WORTH and not always:
        reason = f"kept flat: {said}, which is not worth it"
        return Rewritten(None, reason, done, (), before, after, candidates)
    module, frontier = split(graph, sides)
    check_split(program, graph, module, frontier)
    columns = {node: name for name, node in graph.placeholders.items()}
    return Rewritten(
        program=_export(graph, module),
        reason=said,
        rewrites=done,
        frontier=tuple(columns.get(node, node.name) for node in frontier),
        before=before,
        after=after,
        candidates=candidates,
    )


def flat_account(
    program: ExportedProgram,
    names: Sequence[str],
    user: Sequence[str],
    sample: Callable[[int], Mapping[str, Tensor]],
    *,
    candidates: int,
) -> Account:
    """Return what a flat program takes as it is; arguments as of `rewrite_user_once`."""
    graph = _open(program, names, user, sample)
    return account_of(graph, graph.sides(), Request(candidates), once=False)


def rewrite(
    graph: FlatGraph, request: Request, rewrites: Sequence[str] = tuple(REWRITES)
) -> dict[str, list[str]]:
    """Apply rewrites to a flat graph in place; return what each did, those that did nothing apart.

    The graph stays flat, and computes what it did up to rounding.
    """
    normalize(graph)
    done = {name: REWRITES[name](graph, request) for name in rewrites}
    return {name: lines for name, lines in done.items() if lines}


def _open(
    program: ExportedProgram,
    names: Sequence[str],
    user: Sequence[str],
    sample: Callable[[int], Mapping[str, Tensor]],
) -> FlatGraph:
    graph = flat_graph(program, names, user, sample)
    unfold_bags(graph)
    normalize(graph)
    return graph


def _export(graph: FlatGraph, module: torch.nn.Module) -> ExportedProgram:
    users, items = graph.sample(_SAMPLE_REQUESTS), graph.sample(_SAMPLE_ROWS)
    columns = {name: (users if name in graph.user else items)[name] for name in graph.names}
    rows = dict.fromkeys(graph.names, "rows") | dict.fromkeys(graph.user, "requests")
    columns[ITEM_TO_REQUEST] = torch.arange(_SAMPLE_ROWS) * _SAMPLE_REQUESTS // _SAMPLE_ROWS
    rows[ITEM_TO_REQUEST] = "rows"
    return export_module(module, columns, rows)
