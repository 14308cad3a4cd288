"""Sensitivities as a picture: what changes scores most is at the top of each part."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.pictures.canvas import COLOURS, MARKERS, Picture, dress, new_figure
from optimize.sensitivity.trials import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from optimize.sensitivity.report import Sensitivity
    from optimize.sensitivity.trials import Trial

_MOST = 20
_HEADINGS = {"table": "tables", "layer": "dense layers", "field": "fields"}
_LABELS = {"auc": "change of AUC", "ndcg_at_10": "change of NDCG@10"}


def sensitivity_picture(found: Sensitivity) -> Picture:
    """Return how much scores, and the AUC where there are labels, change by each."""
    return Picture(
        "sensitivity",
        f"{found.ranker}: what changes when one thing does",
        "The mean change of a score, as a share of the scores' spread; hollow points at the left "
        "edge change none. Bars are 95 % intervals of a paired bootstrap over requests.",
        partial(sensitivity_figure, found),
    )


def sensitivity_figure(found: Sensitivity, ink: str = "black") -> Figure:
    """Draw a part for each kind, beside it the metric's changes if there are labels."""
    kinds = [each for each in KINDS if found.of_kind(each)]
    named = {each: names_of(found.of_kind(each)) for each in kinds}
    metric = next(
        (x for x in _LABELS if any(x in each.loss.quality for each in found.trials)), None
    )
    heights = [len(names) + 2 for names in named.values()] or [2]
    figure = new_figure(0.8 + 0.24 * sum(heights))
    grid: Any = figure.subplots(
        len(heights), 1 if metric is None else 2, squeeze=False, height_ratios=heights
    )
    for row, kind in enumerate(kinds):
        _draw_changes(grid[row][0], found.of_kind(kind), named[kind], ink)
        grid[row][0].set_title(_heading(kind, found.of_kind(kind)), color=ink, fontsize=10,
                               loc="left")  # fmt: skip
        if metric is not None:
            _draw_metric(grid[row][1], found.of_kind(kind), named[kind], metric, ink)
    return figure


def names_of(trials: Sequence[Trial]) -> list[str]:
    """Return the names that are drawn, each once, what changes scores most first."""
    return list(dict.fromkeys(each.name for each in trials))[:_MOST]


def _heading(kind: str, trials: Sequence[Trial]) -> str:
    count = len({each.name for each in trials})
    return _HEADINGS[kind] + (f", the first {_MOST} of {count}" if count > _MOST else "")


def _draw_changes(axes: Any, trials: Sequence[Trial], names: Sequence[str], ink: str) -> None:
    finite = [x.loss.score_change for x in trials if 0 < x.loss.score_change < np.inf]
    floor = min(finite, default=1e-3) / 3
    axes.set_xscale("log")
    for number, (treatment, drawn) in enumerate(_by_treatment(trials, names)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for each in drawn:
            change = min(each.loss.score_change, 1e6)
            axes.plot(max(change, floor), names.index(each.name), linestyle="none", color=colour,
                      marker=marker, markersize=6,
                      markerfacecolor=colour if change else "none")  # fmt: skip
        axes.plot([], [], linestyle="none", color=colour, marker=marker, label=treatment)
    _dress(axes, names, ink, "mean change of a score, % of the spread (log scale)")
    axes.set_yticks(range(len(names)), [_short(each) for each in names])
    _percent_axis(axes.xaxis)
    axes.legend(frameon=False, labelcolor=ink, fontsize=8, loc="lower right",
                bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0, ncols=4)  # fmt: skip


def _percent_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _draw_metric(
    axes: Any, trials: Sequence[Trial], names: Sequence[str], metric: str, ink: str
) -> None:
    axes.axvline(0, color=ink, alpha=0.4, linewidth=1)
    for number, (_, drawn) in enumerate(_by_treatment(trials, names)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for each in drawn:
            change = each.loss.quality.get(metric)
            if change is None:
                continue
            place = names.index(each.name)
            axes.plot(change.estimate, place, linestyle="none", color=colour, marker=marker,
                      markersize=4)  # fmt: skip
            if np.isfinite([change.low, change.high]).all():
                axes.plot([change.low, change.high], [place, place], color=colour, linewidth=3,
                          alpha=0.4, solid_capstyle="butt")  # fmt: skip
    _dress(axes, names, ink, _LABELS[metric])
    axes.set_yticks(range(len(names)), [])
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    axes.xaxis.get_offset_text().set_color(ink)


def _dress(axes: Any, names: Sequence[str], ink: str, label: str) -> None:
    dress(axes, ink, x=label, y="")
    axes.set_ylim(len(names) - 0.5, -0.5)


def _by_treatment(trials: Sequence[Trial], names: Sequence[str]) -> list[tuple[str, list[Trial]]]:
    treatments = sorted({each.treatment for each in trials})
    return [
        (one, [each for each in trials if each.treatment == one and each.name in names])
        for one in treatments
    ]


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"…{name[-27:]}"
