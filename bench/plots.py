"""Pictures of measurements, as inline SVG that is right on a light and on a dark page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from bench.measurement import Measurement

# Each at least 3:1 against white and against near-black, and told apart by the colour-blind too;
# the line styles differ as well.
_COLOURS = ("#2f7fd6", "#d9660d", "#17946a", "#c7509b", "#8a68d0", "#9a7b13")
_STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
# Stands for the page's text colour until the SVG is written.
_INK = "#010203"


def latency_svg(measurements: Sequence[Measurement], *, title: str = "") -> str:
    """Return the latency distributions as one ``<svg>`` element for a page of HTML.

    Text and axes take the page's text colour (``currentColor``) and font.

    Args:
        measurements: One curve each; those without answered requests are left out.
        title: Above the picture.
    """
    import matplotlib as mpl

    # Text stays text; the salt makes the same picture the same bytes, and two pictures of one page
    # differ in the names of their clip paths.
    salt = title or "latency"
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure = latency_figure(measurements, title=title, ink=_INK)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), label=title or "Latency distributions")


def latency_figure(
    measurements: Sequence[Measurement], *, title: str = "", ink: str = "black"
) -> Figure:
    """Draw which share of requests took longer than a latency, both axes logarithmic.

    A percentile is read off where a curve crosses its line; the bar across it is the 95 % interval.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    drawn = [each for each in measurements if each.response.count]
    for place, measurement in enumerate(drawn):
        _draw_curve(axes, measurement, place)
    _dress(axes, drawn, ink)
    if title:
        axes.set_title(title, color=ink, loc="left", fontsize=11)
    return figure


def _draw_curve(axes: Any, measurement: Measurement, place: int) -> None:
    values_us, counts = measurement.response.distribution()
    total = counts.sum()
    # Share of requests that took at least this long: 1 for the fastest, 1/n for the slowest.
    tail = (total - np.cumsum(counts) + counts) / total
    colour, style = _COLOURS[place % len(_COLOURS)], _STYLES[place % len(_STYLES)]
    axes.step(
        values_us / 1e3, tail, where="pre", color=colour, linestyle=style, linewidth=1.8,
        label=f"{measurement.name}{' (void)' if measurement.void else ''}",
    )  # fmt: skip
    for each in measurement.response.percentiles():
        # The bars of different curves may lie on one another: shift them a little.
        level = (1 - each.quantile) * 0.94 ** (place - 1)
        axes.plot([each.low_us / 1e3, each.high_us / 1e3], [level] * 2, color=colour, linewidth=4.5,
                  alpha=0.45, solid_capstyle="butt")  # fmt: skip


def _dress(axes: Any, drawn: Sequence[Measurement], ink: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    most = max((each.response.count for each in drawn), default=1000)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.7 / most, 1.15)
    levels = [(1.0, "all"), (0.5, "p50"), (0.1, "p90"), (0.01, "p99"), (1e-3, "p99.9"),
              (1e-4, "p99.99"), (1e-5, "p99.999")]  # fmt: skip
    shown = [(level, name) for level, name in levels if level >= 0.7 / most]
    axes.set_yticks([level for level, _ in shown], [name for _, name in shown])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("response time, ms (log scale)", color=ink)
    axes.set_ylabel("share of requests slower (log scale)", color=ink)
    axes.tick_params(colors=ink, which="both")
    axes.grid(visible=True, color=ink, alpha=0.15, linewidth=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(ink)
    if drawn:
        axes.legend(frameon=False, labelcolor=ink, loc="best", fontsize=9, handlelength=3.2)


def _inline(svg: str, *, label: str) -> str:
    """Make a file of SVG an element: no prolog, the page's colour and font, scaling with it."""
    from html import escape

    body = svg[svg.index("<svg") :]
    body = re.sub(r" font-family: [^;]*;", "", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = body.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    return body.replace(_INK, "currentColor")
