"""What a graph takes and how it looks: what a report tells of it, flat and with the split."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.user_once.cost import Request
from optimize.user_once.overview import overview
from optimize.user_once.work import Work, work_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape, Side
    from optimize.user_once.diagram import Diagram

# The numbers of candidates that a report tells of.
CANDIDATES = (1, 50, 200, 500)


@dataclass(frozen=True, slots=True)
class Account:
    """Of one graph.

    Attributes:
        work: What the request takes that costs are reckoned for.
        modelled_s: By number of candidates, how long a request is expected to take.
        diagram: Its picture; None if it could not be made.
    """

    work: Work
    modelled_s: dict[int, float]
    diagram: Diagram | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return self.work.to_json() | {
            "modelled_ms_at": {
                str(count): round(seconds * 1e3, 4) for count, seconds in self.modelled_s.items()
            },
            "diagram": None if self.diagram is None else self.diagram.to_json(),
        }


def account_of(
    graph: FlatGraph, sides: Mapping[Node, Side], request: Request, *, once: bool
) -> Account:
    """Return what a graph takes; arguments as of `optimize.user_once.work.work_of`."""
    shapes = graph.shapes()
    counts = sorted({*CANDIDATES, request.candidates})
    works = {
        count: work_of(graph, sides, Request(count), once=once, shapes=shapes) for count in counts
    }
    return Account(
        work=works[request.candidates],
        modelled_s={count: work.seconds for count, work in works.items()},
        diagram=_diagram(graph, sides, request, once=once, shapes=shapes),
    )


def _diagram(
    graph: FlatGraph,
    sides: Mapping[Node, Side],
    request: Request,
    *,
    once: bool,
    shapes: Mapping[Node, Shape],
) -> Diagram | None:
    try:
        return overview(graph, sides, request, once=once, shapes=shapes)
    except Exception:  # noqa: BLE001 - a rewrite is not given up for want of its picture
        traceback.print_exc()  # into the stage's log
        return None
