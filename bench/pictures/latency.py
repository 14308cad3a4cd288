"""How slow the slowest are: the share of requests that took longer, on a logarithmic tail axis."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.latencies import QUANTILES
from bench.pictures.canvas import (
    COLOURS,
    STYLES,
    Picture,
    dress,
    legend_above,
    log_axis,
    new_figure,
)
from bench.tables import names_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from bench.measurement import Measurement

# Colours and line styles repeat after these.
MOST_CURVES = len(COLOURS)
_LEVELS = ((1.0, "all"), (0.5, "p50"), (0.1, "p90"), (0.01, "p99"), (1e-3, "p99.9"),
           (1e-4, "p99.99"), (1e-5, "p99.999"))  # fmt: skip


def latency_picture(measurements: Sequence[Measurement]) -> Picture:
    """Return one curve for each measurement; those without answered requests are left out.

    A percentile is read off where a curve crosses its line; the bar across it is the 95 % interval.
    """
    drawn = [each for each in measurements if each.response.count]
    left_out = len(drawn) - MOST_CURVES
    if left_out > 0:
        best = sorted(drawn, key=lambda each: each.response.point_us(0.99))[:MOST_CURVES]
        drawn = [each for each in drawn if any(each is one for one in best)]
    return Picture(
        "latency",
        "How slow the slowest are: share of requests that took at least so long",
        "For each response time, the share of requests that took at least as long. Further left "
        "is faster; the lower end is the tail. Broad bars are 95 % intervals of the percentiles; "
        "a percentile without one rests on too few independent requests."
        + (f" The {left_out} with the slowest p99 are left out." if left_out > 0 else ""),
        partial(latency_figure, drawn),
    )


def latency_figure(measurements: Sequence[Measurement], ink: str = "black") -> Figure:
    """Draw the tails, both axes logarithmic."""
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    drawn = [each for each in measurements if each.response.count]
    for place, (name, measurement) in enumerate(zip(names_apart(drawn), drawn, strict=True)):
        _draw_curve(axes, measurement, place, f"{name} (void)" if measurement.void else name)
    most = max((each.response.count for each in drawn), default=1000)
    axes.set_ylim(0.7 / most, 1.15)
    dress(axes, ink, x="response time, ms (log scale)", y="share of requests slower (log scale)")
    log_axis(axes.xaxis)
    shown = [(level, name) for level, name in _LEVELS if level >= 0.7 / most]
    axes.minorticks_off()
    axes.set_yticks([level for level, _ in shown], [name for _, name in shown])
    # Above the curves: they may end in any corner.
    legend_above(axes, ink)
    return figure


def curve_label(measurement: Measurement) -> str:
    """Return a measurement's name, and that it is void."""
    return f"{measurement.name}{' (void)' if measurement.void else ''}"


def _draw_curve(axes: Any, measurement: Measurement, place: int, label: str) -> None:
    values_us, counts = measurement.response.distribution()
    total = counts.sum()
    # Share of requests that took at least this long: 1 for the fastest, 1/n for the slowest.
    tail = (total - np.cumsum(counts) + counts) / total
    colour, style = COLOURS[place % len(COLOURS)], STYLES[place % len(STYLES)]
    axes.step(
        values_us / 1e3, tail, where="pre", color=colour, linestyle=style, linewidth=1.8,
        label=label,
    )  # fmt: skip
    for each in filter(None, map(measurement.percentile, QUANTILES)):
        # The bars of different curves may lie on one another: shift them a little.
        level = (1 - each.quantile) * 0.94 ** (place - 1)
        axes.plot([each.low_us / 1e3, each.high_us / 1e3], [level] * 2, color=colour, linewidth=4.5,
                  alpha=0.45, solid_capstyle="butt")  # fmt: skip
