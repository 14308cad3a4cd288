"""Where boxes and lines go: laws that hold for any diagram."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.split_report.layout import CORRIDOR, lay_out
from optimize.user_once.diagram import Diagram, Edge, Group, Value


def group(side, kind="operators"):
    return Group("name", kind, side, ("linear",), 1, (4,), 0, 0)


def diagram(sides, pairs):
    groups = tuple(group(side) for side in sides)
    values = (Value("x", (4,), 16),)
    edges = tuple(
        Edge(a, b, values, crosses=sides[a] == "user" and sides[b] in {"item", "both"})
        for a, b in pairs
    )
    return Diagram(groups, edges)


@st.composite
def diagrams(draw):
    """Groups of any sides; what reads of the user and of another is of both, as in a graph."""
    sides, pairs = [], []
    for place in range(draw(st.integers(1, 14))):
        sources = draw(st.sets(st.integers(0, place - 1), max_size=3)) if place else set()
        read = {sides[each] for each in sources} - {"none"}
        own = draw(st.sampled_from(["user", "item", "none"])) if not sources else None
        side = own or ("both" if len(read) > 1 else next(iter(read), "none"))
        sides.append(side)
        pairs += [(each, place) for each in sorted(sources)]
    return diagram(sides, pairs)


def size(place):
    return 60.0 + 17 * (place % 5), 30.0 + 15 * (place % 3)


@settings(max_examples=60, deadline=None)
@given(diagrams())
def test_no_boxes_overlap_and_every_line_goes_down_from_its_source_to_its_reader(drawn):
    layout = lay_out(drawn, size)
    boxes = layout.boxes
    assert [each.group for each in boxes] == list(range(len(drawn.groups)))
    for place, one in enumerate(boxes):
        for other in boxes[:place]:
            beside = abs(one.x - other.x) >= (one.width + other.width) / 2
            below = one.y >= other.y + other.height or other.y >= one.y + one.height
            assert beside or below
    assert len(layout.lines) == len(drawn.edges)
    for line in layout.lines:
        edge = drawn.edges[line.edge]
        source, target = boxes[edge.source], boxes[edge.target]
        assert all(b[1] >= a[1] for a, b in pairwise(line.points))
        assert line.points[0][1] == source.y + source.height
        assert line.points[-1][1] == target.y
        assert abs(line.points[0][0] - source.x) <= source.width / 2
        assert abs(line.points[-1][0] - target.x) <= target.width / 2
        for box in boxes:  # a line passes by the boxes between its ends
            inside = [
                (x, y) for x, y in line.points[1:-1]
                if abs(x - box.x) < box.width / 2 and box.y < y < box.y + box.height
            ]  # fmt: skip
            assert box is source or not inside


@settings(max_examples=60, deadline=None)
@given(diagrams())
def test_the_users_boxes_are_left_of_the_frontier_and_no_others(drawn):
    layout = lay_out(drawn, size)
    if not layout.split:
        return
    for box in layout.boxes:
        side = drawn.groups[box.group].side
        left, right = box.x - box.width / 2, box.x + box.width / 2
        assert right <= -CORRIDOR + 1e-6 or left >= CORRIDOR - 1e-6
        assert (right < 0) == (side == "user") or side == "none"
    for line in layout.lines:
        edge = drawn.edges[line.edge]
        neither = drawn.groups[edge.source].side == "none"  # may be read on both sides
        assert (line.crossing is not None) == edge.crosses or neither
        assert line.points[0][0] < 0 < line.points[-1][0] or line.crossing is None


def test_what_crosses_before_one_rank_is_written_at_heights_of_its_own():
    drawn = diagram(["user", "user", "user", "item", "both"], [(0, 4), (1, 4), (2, 4), (3, 4)])
    heights = [each.crossing for each in lay_out(drawn, size).lines]
    assert heights[3] is None
    assert min(abs(a - b) for a, b in pairwise(sorted(heights[:3]))) >= 20


def test_a_chain_is_drawn_straight_down_beside_what_ends_with_it():
    drawn = diagram(["item", "item", "item", "item"], [(0, 1), (1, 3), (2, 3)])
    boxes = lay_out(drawn, size).boxes
    assert boxes[0].y < boxes[1].y < boxes[3].y
    assert boxes[2].y == boxes[1].y  # not at the top: just above what reads it
