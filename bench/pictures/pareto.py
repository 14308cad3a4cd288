"""Latency against throughput: what no other beats in both lies on the front."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.pictures.canvas import COLOURS, MARKERS, Picture, dress, log_axis, new_figure
from bench.pictures.latency import curve_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from bench.measurement import Measurement

_QUANTILE = 0.99
# Where a label may go, from its point, in points; the first that is free is taken.
_PLACES = ((8, 6), (8, -14), (-8, 6), (-8, -14), (8, 22), (-8, 22), (8, -30), (-8, -30))


@dataclass(frozen=True, slots=True)
class Place:
    """One measurement in the plane.

    Attributes:
        label: Its name, and what else is known of it (quality, size).
        p99_ms: To the left is better.
        candidates_per_s: Up is better.
        low_ms: Of the p99's 95 % interval; None where it rests on too few requests.
        high_ms: Upper end, or None.
    """

    label: str
    p99_ms: float
    candidates_per_s: float
    low_ms: float | None
    high_ms: float | None


def pareto_picture(
    measurements: Sequence[Measurement], about: Mapping[str, str] | None = None
) -> Picture:
    """Return the p99 of each measurement against the candidates it scored in a second.

    Args:
        measurements: Of one load, or they cannot be compared.
        about: What else is known of one, by its name: quality, size.
    """
    places = [_place(each, about or {}) for each in measurements if each.response.count]
    return Picture(
        "pareto",
        "Tail latency against throughput: up and to the left is better",
        "No other point is better in both than one on the line. Bars are 95 % intervals of the "
        "p99; a point without one rests on too few independent requests.",
        partial(pareto_figure, places),
    )


def front(places: Sequence[Place]) -> list[Place]:
    """Return those that no other beats in both, by p99."""
    found: list[Place] = []
    for each in sorted(places, key=lambda one: (one.p99_ms, -one.candidates_per_s)):
        if not found or each.candidates_per_s > found[-1].candidates_per_s:
            found.append(each)
    return found


def pareto_figure(places: Sequence[Place], ink: str = "black") -> Figure:
    """Draw the points with their names, and the front as steps."""
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(0.16, 0.2)
    best = front(places)
    axes.step([each.p99_ms for each in best], [each.candidates_per_s for each in best],
              where="post", color=ink, alpha=0.45, linewidth=1.2)  # fmt: skip
    for number, each in enumerate(places):
        colour = COLOURS[number % len(COLOURS)]
        if each.low_ms is not None and each.high_ms is not None:
            axes.plot([each.low_ms, each.high_ms], [each.candidates_per_s] * 2, color=colour,
                      linewidth=4, alpha=0.4, solid_capstyle="butt")  # fmt: skip
        axes.plot(each.p99_ms, each.candidates_per_s, linestyle="none", color=colour,
                  marker=MARKERS[number % len(MARKERS)], markersize=7,
                  markerfacecolor=colour if each in best else "none")  # fmt: skip
    dress(axes, ink, x="p99 of the response time, ms (log scale)",
          y="candidates scored in a second (log scale)")  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        log_axis(axis)
    label_points(
        figure, axes, [(each.label, each.p99_ms, each.candidates_per_s) for each in places], ink
    )
    return figure


def _place(measurement: Measurement, about: Mapping[str, str]) -> Place:
    found = measurement.percentile(_QUANTILE)
    known = about.get(measurement.name)
    return Place(
        curve_label(measurement) + (f"\n{known}" if known else ""),
        measurement.response.point_us(_QUANTILE) / 1e3,
        measurement.candidates_per_s,
        None if found is None else found.low_us / 1e3,
        None if found is None else found.high_us / 1e3,
    )


def label_points(
    figure: Any, axes: Any, points: Sequence[tuple[str, float, float]], ink: str
) -> None:
    """Write each name beside its point ``(name, x, y)``, where it covers no other name or point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    figure.canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # places the axes
    renderer = figure.canvas.get_renderer()
    places = axes.transData.transform([(x, y) for _, x, y in points])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places] if len(points) else []
    inside = axes.get_window_extent(renderer)
    for label, left, up in points:
        tried = []
        for dx, dy in _PLACES:
            text = axes.annotate(
                label, (left, up), xytext=(dx, dy),
                textcoords="offset points", color=ink, fontsize=9, ha="left" if dx > 0 else "right",
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            covered = sum(box.overlaps(other) for other in taken)
            outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0
                           and box.y1 <= inside.y1)  # fmt: skip
            tried.append((covered + 10 * outside, text, box))
            if not tried[-1][0]:
                break
        _, kept, box = min(tried, key=lambda one: one[0])
        for _, text, _ in tried:
            if text is not kept:
                text.remove()
        taken.append(box)
