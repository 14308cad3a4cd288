"""Variants in a plane: faster is further left, better is higher, a larger file a larger point."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.pictures.canvas import ALARM, COLOURS, MARKERS, Picture, dress, log_axis, new_figure
from bench.pictures.pareto import label_points
from rankers.metrics import LESS_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from optimize.variants.variant import Standing

_LEAST, _MOST = 25.0, 400.0  # areas of points, in square points


def variants_picture(
    standings: Sequence[Standing], ranker: str, metric: str, load: str | None
) -> Picture:
    """Return what variants cost and are worth.

    Args:
        standings: Of all of them; those of which something is not known are in no picture.
        ranker: Its name.
        metric: What is up.
        load: Under which the p50 was measured; None where it was nowhere: then size is along.
    """
    along = "p50" if load is not None else "size"
    shown = [each for each in standings if place_of(each, metric, load) is not None]
    left = [each.variant.name for each in standings if each not in shown]
    return Picture(
        "variants",
        f"{ranker}: {along} and change of {metric}" + (f" ({load})" if load else ""),
        "No other variant is as small, as fast and as good as a filled one, and better in one of "
        "them; they are joined by the line. The larger a point, the larger its files. Bars are 95 "
        "% intervals. Crossed out: it did not pass its gates."
        + (f" Not shown, for want of figures: {', '.join(left)}." if left else ""),
        partial(variants_figure, shown, metric, load),
    )


def place_of(standing: Standing, metric: str, load: str | None) -> tuple[float, float] | None:
    """Return where a variant stands: p50 in ms, or megabytes without a load, and the change."""
    variant = standing.variant
    change = variant.quality.get(metric)
    size = variant.model_bytes
    if change is None or size is None:
        return None
    along = size / 1e6 if load is None else variant.p50_ms.get(load)
    return None if along is None else (along, change.estimate)


def variants_figure(
    standings: Sequence[Standing], metric: str, load: str | None, ink: str = "black"
) -> Figure:
    """Draw the points with their names and intervals, and the front."""
    figure = new_figure(5.0)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.margins(0.16, 0.2)
    axes.axhline(0, color=ink, alpha=0.4, linewidth=1)
    largest = max((each.variant.model_bytes or 0 for each in standings), default=1)
    points = []
    for number, each in enumerate(standings):
        place = place_of(each, metric, load)
        if place is None:
            continue
        points.append((each.variant.name, *place))
        size = (each.variant.model_bytes or 0) / max(largest, 1)
        style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        _draw(axes, each, place, metric, area=_LEAST + (_MOST - _LEAST) * size, **style)
    front = sorted(
        place
        for each in standings
        if each.outcome == "on the front" and (place := place_of(each, metric, load))
    )
    if front:
        x, y = zip(*front, strict=True)
        axes.plot(x, y, color=ink, alpha=0.45, linewidth=1.2, zorder=0)
    less = " (lower is better)" if metric in LESS_IS_BETTER else ""
    along = "files, MB (log scale)" if load is None else "p50 of the response time, ms (log scale)"
    dress(axes, ink, x=along, y=f"change of {metric}{less}")
    log_axis(axes.xaxis)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes.yaxis.get_offset_text().set_color(ink)
    label_points(figure, axes, points, ink)
    return figure


def _draw(
    axes: Any,
    standing: Standing,
    place: tuple[float, float],
    metric: str,
    *,
    area: float,
    color: str,
    marker: str,
) -> None:
    change = standing.variant.quality[metric]
    if np.isfinite([change.low, change.high]).all():
        axes.plot([place[0]] * 2, [change.low, change.high], color=color, linewidth=4, alpha=0.4,
                  solid_capstyle="butt")  # fmt: skip
    filled = standing.outcome == "on the front"
    axes.scatter(*place, s=area, marker=marker, edgecolors=color,
                 facecolors=color if filled else "none")  # fmt: skip
    if standing.outcome == "out":
        axes.plot(*place, linestyle="none", marker="x", markersize=9, color=ALARM)
