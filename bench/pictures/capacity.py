"""What a target does as the rate rises: percentiles against its objective, and goodput."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bench.latencies import percentile_label
from bench.pictures.canvas import (
    ALARM,
    COLOURS,
    STYLES,
    Picture,
    count_axis,
    dress,
    legend,
    log_axis,
    new_figure,
    strike_out,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from bench.capacity_curve import Capacity, Point


def capacity_picture(capacity: Capacity) -> Picture:
    """Return percentiles and goodput against the rate, with the objective and the capacity."""
    name = capacity.points[0].measurement.name
    return Picture(
        "capacity",
        f"{name}: response time and goodput against the rate of Poisson arrivals",
        "Bars are 95 % intervals. A hollow point was not shown to hold the objective; one without "
        "a bar rests on too few independent requests for an interval. Goodput: answered within the "
        "bound.",
        partial(capacity_figure, capacity),
    )


def capacity_figure(capacity: Capacity, ink: str = "black") -> Figure:
    """Draw the latency above, the goodput below, at the same rates."""
    figure = new_figure(5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    points = [each for each in capacity.points if each.measurement.response.count]
    above.set_yscale("log")
    above.axhline(capacity.slo.bound_ms, color=ALARM, linestyle=(0, (4, 2)), linewidth=1.5,
                  label=f"objective: {capacity.slo.text}")  # fmt: skip
    for place, quantile in enumerate(dict.fromkeys((0.5, capacity.slo.quantile))):
        _draw_quantile(above, points, quantile, place)
    void = [each for each in points if each.measurement.void]
    levels = (each.measurement.response.point_us(capacity.slo.quantile) / 1e3 for each in void)
    strike_out(above, [(each.rate_per_s, y) for each, y in zip(void, levels, strict=True)], ink)
    rates = [each.rate_per_s for each in points]
    # What is offered is what would be answered in time, were there no limit.
    below.plot([0, *rates], [0, *rates], color=ink, alpha=0.5, linestyle=(0, (1, 2)),
               label="all that arrive")  # fmt: skip
    below.plot(rates, [each.goodput_per_s for each in points], color=COLOURS[2], marker="D",
               markersize=4, label="goodput")  # fmt: skip
    dress(above, ink, x="", y="response time,\nms (log scale)")
    dress(below, ink, x="Poisson arrivals, requests/s", y="answered in time,\nrequests/s")
    log_axis(above.yaxis)
    count_axis(below.xaxis)
    count_axis(below.yaxis)
    below.set_xlim(0, max(rates, default=1.0) * 1.05)
    below.set_ylim(0)
    if capacity.rate_per_s is not None:
        for axes in (above, below):
            axes.axvline(capacity.rate_per_s, color=ink, alpha=0.7, linewidth=1.2)
        above.annotate(
            f"capacity {capacity.rate_per_s:,.4g}/s", (capacity.rate_per_s, 1.0),
            xycoords=("data", "axes fraction"), xytext=(-4, 2), textcoords="offset points",
            ha="right", va="bottom", color=ink, fontsize=9,
        )  # fmt: skip
    legend(above, ink, loc="center left")
    legend(below, ink, loc="upper left")
    return figure


def _draw_quantile(axes: Any, points: Sequence[Point], quantile: float, place: int) -> None:
    colour, style = COLOURS[place], STYLES[place]
    rates = [each.rate_per_s for each in points]
    middle = [each.measurement.response.point_us(quantile) / 1e3 for each in points]
    axes.plot(rates, middle, color=colour, linestyle=style, linewidth=1.6,
              label=percentile_label(quantile))  # fmt: skip
    for point, value in zip(points, middle, strict=True):
        axes.plot(point.rate_per_s, value, marker="o", markersize=6, color=colour,
                  markerfacecolor=colour if point.holds else "none")  # fmt: skip
        found = point.measurement.percentile(quantile)
        if found is not None:
            axes.plot([point.rate_per_s] * 2, [found.low_us / 1e3, found.high_us / 1e3],
                      color=colour, linewidth=4, alpha=0.4, solid_capstyle="butt")  # fmt: skip
