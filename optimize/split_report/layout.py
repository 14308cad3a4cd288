"""Where the boxes and lines of a diagram go: two lanes, the user's left of the frontier.

A layered drawing after Sugiyama, Tagawa and Toda (1981): ranks from top to bottom, each box as near
above what reads it as can be, lines through free places of the ranks they pass, places in a rank by
the means of their neighbours. Other than in general layouts each lane keeps to its side of one
straight frontier (docs/decisions/014-own-lanes.md says why this is no library's).

All lengths are in pixels; the frontier is at x = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from optimize.user_once.diagram import Diagram, Edge

Point = tuple[float, float]

# Between boxes of a rank, between ranks, and for each line that crosses the frontier there.
_APART, _BETWEEN, _CHANNEL = 26.0, 34.0, 25.0
# Free on each side of the frontier: what crosses is written there.
CORRIDOR = 78.0
_LINE_WIDTH = 10.0  # that a line takes in a rank that it passes
_SWEEPS = 12


@dataclass(frozen=True, slots=True)
class Box:
    """A group's place.

    Attributes:
        group: Its place in the diagram.
        x: Of its middle.
        y: Of its top.
        width: As it was asked for.
        height: As it was asked for.
    """

    group: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """An edge's way, to be drawn with vertical ends.

    Attributes:
        edge: Its place in the diagram.
        points: From the source's bottom to the target's top; straight down at each.
        crossing: The height at which it runs straight from one lane to the other; None if it does
            not.
    """

    edge: int
    points: tuple[Point, ...]
    crossing: float | None


@dataclass(frozen=True, slots=True)
class Layout:
    """A diagram in its places.

    Attributes:
        left: The smallest x.
        right: The largest x.
        height: Ranks begin at y = 0.
        split: Whether there are two lanes.
    """

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    left: float
    right: float
    height: float
    split: bool


def lay_out(diagram: Diagram, size: Callable[[int], tuple[float, float]]) -> Layout:
    """Return where everything of a diagram goes.

    Args:
        diagram: What is drawn.
        size: Gives the width and height that a group's box needs.
    """
    made = _Ranks(diagram, size)
    made.settle()
    tops, bottoms = made.heights()
    boxes = tuple(
        Box(place, item.x, tops[item.rank], item.width, item.height)
        for place, item in enumerate(made.items)
    )
    lines = tuple(made.lines(tops, bottoms))
    edges = [x for each in boxes for x in (each.x - each.width / 2, each.x + each.width / 2)]
    passing = [x for each in lines for x, _ in each.points]
    return Layout(
        boxes=boxes,
        lines=lines,
        left=min((*edges, *passing), default=0.0),
        right=max((*edges, *passing), default=0.0),
        height=max(bottoms, default=0.0),
        split=len({item.lane for item in made.items}) == 2,
    )


@dataclass(eq=False)
class _Item:
    """A box, or a place where a line passes a rank."""

    lane: int
    rank: int
    width: float
    height: float
    x: float = 0.0
    above: list[_Item] = field(default_factory=list)
    below: list[_Item] = field(default_factory=list)


class _Ranks:
    """Boxes and passing lines, rank by rank and lane by lane."""

    def __init__(self, diagram: Diagram, size: Callable[[int], tuple[float, float]]) -> None:
        self._edges = diagram.edges
        lanes = _lanes(diagram)
        ranks = _ranks(len(diagram.groups), diagram.edges)
        self._count = max(ranks, default=-1) + 1
        self.items = [
            _Item(lanes[place], ranks[place], *size(place)) for place in range(len(lanes))
        ]
        self._ways = [self._way(each) for each in diagram.edges]
        every = [*self.items, *(item for way in self._ways for item in way[1:-1])]
        self._rows: list[list[list[_Item]]] = [
            [[x for x in every if (x.rank, x.lane) == (rank, lane)] for lane in (0, 1)]
            for rank in range(self._count)
        ]
        self._split = len(set(lanes)) == 2

    def settle(self) -> None:
        """Bring each item near the middle of its neighbours, up and down in turn."""
        for rank in range(self._count):
            for row in self._rows[rank]:
                self._put(row, [0.0] * len(row))
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            for rank in range(self._count) if down else reversed(range(self._count)):
                for lane in (0, 1):
                    row = self._rows[rank][lane]
                    wanted = {x: _mean(x.above if down else x.below, x.x) for x in row}
                    row.sort(key=wanted.__getitem__)
                    self._put(row, [wanted[x] for x in row])
        for _ in range(2):  # the order is settled: both neighbours together
            for rank in range(self._count):
                for row in self._rows[rank]:
                    self._put(row, [_mean((*x.above, *x.below), x.x) for x in row])

    def heights(self) -> tuple[list[float], list[float]]:
        """Return each rank's top and bottom; lines across the frontier need room before a rank."""
        tops, bottoms = [], []
        y = 0.0
        for rank in range(self._count):
            if rank:
                y += _BETWEEN + _CHANNEL * len(self._crossing_before(rank))
            tops.append(y)
            boxes = [x.height for x in self.items if x.rank == rank]
            y += max(boxes, default=0.0)
            bottoms.append(y)
        return tops, bottoms

    def lines(self, tops: Sequence[float], bottoms: Sequence[float]) -> Iterable[Line]:
        """Yield each edge's way."""
        crossings = {
            edge: tops[rank] - _BETWEEN / 2 - _CHANNEL * (len(before) - 1 - number)
            for rank in range(1, self._count)
            for before in [self._crossing_before(rank)]
            for number, edge in enumerate(before)
        }
        for place, way in enumerate(self._ways):
            start, end = way[0], way[-1]
            points = [(_port(start, start.below, way[1]), tops[start.rank] + start.height)]
            if points[0][1] < bottoms[start.rank]:
                points.append((points[0][0], bottoms[start.rank]))
            for item in way[1:-1]:
                points += [(item.x, tops[item.rank]), (item.x, bottoms[item.rank])]
            points.append((_port(end, end.above, way[-2]), tops[end.rank]))
            yield Line(place, tuple(points), crossings.get(place))

    def _crossing_before(self, rank: int) -> list[int]:
        """Return the edges that cross just before a rank, those from nearest the frontier first."""
        found = [
            place
            for place, way in enumerate(self._ways)
            if way[-1].rank == rank and way[0].lane != way[-1].lane
        ]
        return sorted(found, key=lambda place: -self._ways[place][-2].x)

    def _way(self, edge: Edge) -> list[_Item]:
        """Return what an edge passes, made known to each other; it keeps to its source's lane."""
        first, last = self.items[edge.source], self.items[edge.target]
        way = [
            first,
            *(_Item(first.lane, rank, _LINE_WIDTH, 0.0)
              for rank in range(first.rank + 1, last.rank)),
            last,
        ]  # fmt: skip
        for one, other in pairwise(way):
            one.below.append(other)
            other.above.append(one)
        return way

    def _put(self, row: list[_Item], wanted: list[float]) -> None:
        """Place a row in its order, as near as can be to where its items want to be."""
        import numpy as np
        from scipy.optimize import isotonic_regression

        if not row:
            return
        widths = [x.width for x in row]
        steps = [(a + b) / 2 + _APART for a, b in pairwise(widths)]
        offsets = np.concatenate([[0.0], np.cumsum(steps)])
        places = isotonic_regression(np.array(wanted) - offsets).x
        if self._split:
            if row[0].lane == 0:
                places = np.minimum(places, -CORRIDOR - widths[-1] / 2 - offsets[-1])
            else:
                places = np.maximum(places, CORRIDOR + widths[0] / 2)
        for item, x in zip(row, places + offsets, strict=True):
            item.x = float(x)


def _lanes(diagram: Diagram) -> list[int]:
    """Return 0 for what is left of the frontier; what is neither's stands with what reads it.

    Then no line leads back from the right to the left.
    """
    lanes = [0 if each.side == "user" else 1 for each in diagram.groups]
    for place in reversed(range(len(lanes))):
        readers = [each.target for each in diagram.edges if each.source == place]
        if diagram.groups[place].side == "none" and readers:
            lanes[place] = min(lanes[each] for each in readers)
    return lanes


def _ranks(count: int, edges: Sequence[Edge]) -> list[int]:
    """Return each group's rank from the top: just above the highest that reads it."""
    below = [0] * count
    for edge in sorted(edges, key=lambda each: -each.source):
        below[edge.source] = max(below[edge.source], below[edge.target] + 1)
    deepest = max(below, default=0)
    return [deepest - each for each in below]


def _mean(items: Sequence[_Item], otherwise: float) -> float:
    return sum(x.x for x in items) / len(items) if items else otherwise


def _port(box: _Item, neighbours: Sequence[_Item], other: _Item) -> float:
    """Return where on a box's edge the line to one of its neighbours begins: in their order."""
    if len(neighbours) < 2:
        return box.x
    order = sorted(neighbours, key=lambda each: _toward(box, each))
    share = order.index(other) / (len(order) - 1) - 0.5
    return box.x + share * min(box.width * 0.6, 22.0 * (len(order) - 1))


def _toward(box: _Item, neighbour: _Item) -> float:
    """Return to which x a line leaves a box: across the frontier it goes straight down first."""
    leaves = box.lane == 0 and neighbour.lane == 1
    return box.x if leaves else neighbour.x
