"""Which target wins at which number of candidates."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bench.compare import COMPARED_QUANTILES
from bench.crossover import load_label
from bench.latencies import percentile_label
from bench.pictures.canvas import (
    COLOURS,
    MARKERS,
    STYLES,
    Picture,
    dress,
    legend,
    log_axis,
    new_figure,
    strike_out,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from bench.crossover import Cell, Crossover


def crossover_pictures(found: Crossover) -> list[Picture]:
    """Return a picture for each load."""
    rates = dict.fromkeys(each.rate_per_s for each in found.cells)
    return [
        Picture(
            "crossover",
            f"Response time against the number of candidates: {load_label(rate)}",
            "Bars are 95 % intervals; a hollow point rests on too few independent requests. "
            "The table says which differences are sure.",
            partial(crossover_figure, [each for each in found.cells if each.rate_per_s == rate]),
        )
        for rate in rates
    ]


def crossover_figure(cells: Sequence[Cell], ink: str = "black") -> Figure:
    """Draw each percentile beside the other, a line for each target."""
    figure = new_figure(4.0)
    both = figure.subplots(1, len(COMPARED_QUANTILES), sharey=True)
    for axes, quantile in zip(both, COMPARED_QUANTILES, strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        for place in range(len(cells[0].measurements)):
            _draw_target(axes, cells, place, quantile)
        strike_out(
            axes,
            [
                (cell.candidates, run.response.point_us(quantile) / 1e3)
                for cell in cells
                for run in cell.measurements
                if run.void and run.response.count
            ],
            ink,
        )
    both[0].autoscale_view()
    for axes, quantile in zip(both, COMPARED_QUANTILES, strict=True):
        first = axes is both[0]
        dress(axes, ink, x="candidates in a request",
              y="response time, ms (log scale)" if first else "")  # fmt: skip
        axes.set_title(percentile_label(quantile), color=ink, fontsize=10)
        log_axis(axes.yaxis)
        counts = [each.candidates for each in cells]
        axes.minorticks_off()
        axes.set_xticks(counts, [f"{each:,}" for each in counts])
    legend(both[0], ink, loc="upper left")
    return figure


def _draw_target(axes: Any, cells: Sequence[Cell], place: int, quantile: float) -> None:
    runs = [(each.candidates, each.measurements[place]) for each in cells]
    runs = [(count, run) for count, run in runs if run.response.count]
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    values = [run.response.point_us(quantile) / 1e3 for _, run in runs]
    axes.plot(
        [count for count, _ in runs], values, color=colour, linestyle=STYLES[place % len(STYLES)],
        linewidth=1.7, marker=marker, markersize=5, markevery=[],
        label=cells[0].measurements[place].name,
    )  # fmt: skip
    for (count, run), value in zip(runs, values, strict=True):
        found = run.percentile(quantile)
        axes.plot(count, value, color=colour, marker=marker, markersize=5,
                  markerfacecolor="none" if found is None else colour)  # fmt: skip
        if found is not None:
            axes.plot([count] * 2, [found.low_us / 1e3, found.high_us / 1e3], color=colour,
                      linewidth=4, alpha=0.4, solid_capstyle="butt")  # fmt: skip
