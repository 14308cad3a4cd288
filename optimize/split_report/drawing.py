"""A diagram as SVG: boxes coloured by side, the frontier, and what crosses it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from optimize.split_report.layout import CORRIDOR, Layout, Line, Point, lay_out

if TYPE_CHECKING:
    from optimize.user_once.diagram import Diagram, Edge, Group

# Told apart by the colour-blind too, and 3:1 or more against white and near-black.
COLOURS = {"user": "#2f7fd6", "item": "#d9660d", "both": "#8a68d0", "none": "#7d8894"}
FRONTIER = "#d2453b"
WORDS = {"user": "the user's", "item": "the item's", "both": "of both", "none": "of neither"}
_SHORT = {"scaled_dot_product_attention": "attention", "constant_pad_nd": "pad", "cat": "concat"}
TIMES = "\N{MULTIPLICATION SIGN}"
_LONGEST = 27  # characters of a line
_ABOVE = 62.0  # for the legend and the lanes' headings
_MARGIN = 14.0
_LEGEND = 100.0  # for each side
_LINE_HEIGHT, _PADDING = 15.0, 8.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture for a page; see `bench.pictures.canvas.Drawn`.

    Attributes:
        name: ``flat`` or ``once``.
        title: Above it.
        caption: Below it.
        diagram: What is drawn.
        headings: Over the user's lane and over the other.
    """

    name: str
    title: str
    caption: str
    diagram: Diagram
    headings: tuple[str, str]

    def svg(self, salt: str) -> str:
        """Return one ``<svg>`` element in the page's own text colour.

        Args:
            salt: Different for each picture of a page; names inside come from it.
        """
        from importlib.resources import files

        import jinja2

        template = jinja2.Environment(
            autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        ).from_string((files("optimize.split_report") / "diagram.svg.j2").read_text())
        groups, edges = self.diagram.groups, self.diagram.edges
        texts = [lines_of(each) for each in groups]
        layout = lay_out(self.diagram, lambda place: _size(texts[place]))
        sides = [each for each in COLOURS if any(group.side == each for group in groups)]
        left, width = _extent(layout, len(sides))
        return template.render(
            title=self.title,
            salt=salt,
            view=(left, -_ABOVE, width, layout.height + _ABOVE + _MARGIN),
            colours=COLOURS,
            words=WORDS,
            sides=sides,
            legend=_LEGEND,
            margin=_MARGIN,
            frontier=FRONTIER,
            headings=self.headings,
            layout=layout,
            corridor=CORRIDOR,
            boxes=[
                (each, groups[each.group], texts[each.group], tooltip(groups[each.group]))
                for each in layout.boxes
            ],
            lines=[
                (each, edges[each.edge], path_of(each), _flow(edges[each.edge]))
                for each in layout.lines
            ],
        )


def lines_of(group: Group) -> tuple[str, ...]:
    """Return what is written in a group's box: its name, what it does, how much."""
    times = f"{group.times} {TIMES} " if group.times > 1 else ""
    if group.kind == "column":
        plain = f"{group.times} columns" if times else "one value"
        return (_end(group.label), f"{times}{shape_text(group.shape)}" if group.shape else plain)
    size = [shape_text(group.shape)] if group.shape else []
    if group.multiply_adds:
        size.append(f"{amount_text(group.multiply_adds)} mult-adds")
    if group.gathered_bytes:
        size.append(f"{bytes_text(group.gathered_bytes)} read")
    did = _start(", ".join(_operators(group)))
    name = f"{times}{_end(_SHORT.get(group.label, group.label))}"
    return tuple(x for x in (name, "" if did == name else did, " · ".join(size)) if x)


def tooltip(group: Group) -> str:
    """Return all that is known of a group, a line each."""
    what = "columns" if group.kind == "column" else "operators"
    return "\n".join(
        (
            f"{group.label} ({WORDS[group.side]})",
            f"{what}: {', '.join(group.operators)}",
            f"shape of a row: {shape_text(group.shape) or '[]'}",
            f"multiply-adds of a request: {group.multiply_adds:,}",
            f"table bytes of a request: {group.gathered_bytes:,}",
        )
    )


def path_of(line: Line) -> str:
    """Return a line as the data of an SVG path."""
    first, *rest = line.points
    parts = [f"M{first[0]:.1f},{first[1]:.1f}"]
    before = first
    for number, point in enumerate(rest):
        if line.crossing is not None and number == len(rest) - 1:
            parts.append(_across(before, point, line.crossing))
        elif abs(before[0] - point[0]) < 0.5:
            parts.append(f"L{point[0]:.1f},{point[1]:.1f}")
        else:
            middle = (before[1] + point[1]) / 2
            parts.append(
                f"C{before[0]:.1f},{middle:.1f} {point[0]:.1f},{middle:.1f} "
                f"{point[0]:.1f},{point[1]:.1f}"
            )
        before = point
    return " ".join(parts)


def shape_text(shape: tuple[int, ...]) -> str:
    """Return such as ``[100, 64]``; nothing for a number."""
    return f"[{', '.join(map(str, shape))}]" if shape else ""


def amount_text(count: float) -> str:
    """Return such as ``246 M``."""
    from bench.tables import number_text

    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{number_text(count / size)}{unit}"
    return f"{count:,.0f}"


def bytes_text(count: float) -> str:
    """Return such as ``25.6 kB``."""
    return f"{amount_text(count)}{'' if count >= 1e3 else ' '}B"


def _across(before: Point, after: Point, height: float) -> str:
    """Go down, straight across at a height, and down again, round the corners."""
    (x1, _), (x2, y2) = before, after
    turn = min(8.0, abs(x2 - x1) / 2)
    way = turn if x2 > x1 else -turn
    return (
        f"L{x1:.1f},{height - turn:.1f} Q{x1:.1f},{height:.1f} {x1 + way:.1f},{height:.1f} "
        f"L{x2 - way:.1f},{height:.1f} Q{x2:.1f},{height:.1f} {x2:.1f},{height + turn:.1f} "
        f"L{x2:.1f},{y2:.1f}"
    )


def _flow(edge: Edge) -> str:
    """Return what is written where an edge crosses the frontier."""
    size = bytes_text(edge.bytes_per_row)
    if len(edge.values) == 1:
        return f"{shape_text(edge.values[0].shape)} {size}".strip()
    shapes = {each.shape for each in edge.values}
    each = shape_text(next(iter(shapes))) if len(shapes) == 1 else ""
    return (
        f"{len(edge.values)} {TIMES} {each} {size}"
        if each
        else f"{len(edge.values)} values, {size}"
    )


def _operators(group: Group) -> list[str]:
    """Return what a group does; the same several times over is said once."""
    named = [_SHORT.get(each, each) for each in group.operators]
    if group.times > 1:
        named = named[: max(1, len(named) // group.times)]
    found = []
    for name, times in groupby(named):
        count = len(list(times))
        found.append(f"{count} {TIMES} {name}" if count > 1 else name)
    return found


def _size(lines: tuple[str, ...]) -> tuple[float, float]:
    """Return what a box takes; the first line is bold. Fonts differ, so with some to spare."""
    name, *others = lines
    widest = max(len(name) * 7.7, *(len(each) * 6.1 for each in others), 60.0)
    return widest + 2 * _PADDING, len(lines) * _LINE_HEIGHT + 2 * _PADDING - 2


def _extent(layout: Layout, sides: int) -> tuple[float, float]:
    """Return where the picture begins, and its width: headings and the legend need some, too."""
    least = 250.0 if layout.split else 0.0
    left = min(layout.left, -least) - _MARGIN
    legend = sides * _LEGEND + (270.0 if layout.split else 0.0) + 2 * _MARGIN
    return left, max(max(layout.right, least) + _MARGIN - left, legend)


def _start(text: str) -> str:
    return text if len(text) <= _LONGEST + 4 else f"{text[: _LONGEST + 3].rstrip(', ')}…"


def _end(text: str) -> str:
    """Return the end of a name that is too long: of a module's path it says the most."""
    if len(text) <= _LONGEST:
        return text
    parts = text[-_LONGEST + 1 :].split(".")
    return f"…{'.'.join(parts[1:] or parts)}"
