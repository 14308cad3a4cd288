"""The course of a run: response times, how late requests were sent, and how many came through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.pictures.canvas import (
    ALARM,
    COLOURS,
    Picture,
    count_axis,
    dress,
    legend_above,
    log_axis,
    new_figure,
)
from bench.pictures.latency import curve_label
from bench.tables import load_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.measurement import Measurement
    from bench.timeline import Timeline


def timeline_picture(measurement: Measurement) -> Picture:
    """Return the course of a run that has a timeline."""
    rounds = f", {len(measurement.rounds)} rounds joined" if measurement.rounds else ""
    return Picture(
        "timeline",
        f"{curve_label(measurement)}: {load_text(measurement)}{rounds}",
        "Each step is a slice of the run, by when requests were due. A stall stands out in the "
        "slowest of a slice; in a closed loop it also leaves slices without a request, which are "
        "shaded. Sent late: by the generator's own lag, or because every worker was busy."
        + (f" Void: {'; '.join(measurement.void)}." if measurement.void else ""),
        partial(timeline_figure, measurement),
    )


def timeline_figure(measurement: Measurement, ink: str = "black") -> Figure:
    """Draw latencies above, the rate below, over the run's time."""
    timeline = measurement.timeline
    if timeline is None:
        raise ValueError(f"{measurement.name} has no timeline")
    figure = new_figure(5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
    above.set_yscale("log")
    seconds = timeline.edges_s
    some = timeline.counts > 0
    _steps(above, timeline, np.where(some, timeline.slowest_ns / 1e6, np.nan), COLOURS[1],
           "slowest of a slice", linewidth=1.4)  # fmt: skip
    _steps(above, timeline, timeline.quantile_us(0.5) / 1e3, COLOURS[0], "p50 of a slice",
           linewidth=1.8)  # fmt: skip
    if timeline.behind_ns.any():
        late = np.where(timeline.behind_ns > 0, timeline.behind_ns / 1e6, np.nan)
        _steps(above, timeline, late, COLOURS[4], "sent late, at worst",
               linewidth=1.2, linestyle=(0, (3, 1)))  # fmt: skip
    length_s = np.maximum(np.diff(seconds), 1e-9)
    _steps(below, timeline, timeline.counts / length_s, COLOURS[2], None, linewidth=1.4)
    for axes in (above, below):
        for place in np.flatnonzero(~some):
            axes.axvspan(seconds[place], seconds[place + 1], color=ALARM, alpha=0.18, linewidth=0)
    # What is far below every response time is nobody's cause.
    above.set_ylim(bottom=np.nanmin(np.append(timeline.quantile_us(0.5), 1e9)) / 1e3 / 8)
    dress(above, ink, x="", y="ms (log scale)")
    dress(below, ink, x="time of measuring, s", y="answered,\nrequests/s")
    log_axis(above.yaxis)
    count_axis(below.yaxis)
    below.set_ylim(0)
    below.set_xlim(0, seconds[-1])
    legend_above(above, ink)
    return figure


def _steps(axes: Any, timeline: Timeline, values: Any, colour: str, label: str | None,
           **style: Any) -> None:  # fmt: skip
    axes.stairs(values, timeline.edges_s, color=colour, label=label, baseline=None, **style)
