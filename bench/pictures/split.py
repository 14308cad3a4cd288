"""Where the time of traced requests goes: client, network, queue, compute."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench.attribution import PARTS, mean_splits
from bench.pictures.canvas import COLOURS, Picture, dress, legend_above, new_figure
from bench.tables import ms_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from bench.attribution import Split

_HATCHES = ("", "///", "...", "\\\\\\")


def split_picture(splits: Sequence[Split]) -> Picture:
    """Return a bar each for the middle half, the slowest hundredth and the slowest request."""
    return Picture(
        "split",
        f"Where the time goes: {len(splits):,} traced requests",
        "Shares of the mean time from sending to the scores, in a run of its own, for tracing "
        "costs time. Network holds gRPC on both sides and threads that wait for a core.",
        partial(split_figure, splits),
    )


def split_figure(splits: Sequence[Split], ink: str = "black") -> Figure:
    """Draw stacked bars of shares; the mean time stands beside each."""
    groups = mean_splits(splits)
    figure = new_figure(0.9 + 0.62 * len(groups) + 0.5)
    axes = figure.add_subplot()
    names = [f"{title}\n{ms_text(mean.total_us)} ms" for title, mean in groups.items()]
    left = [0.0] * len(groups)
    for place, part in enumerate(PARTS):
        shares = [100 * getattr(mean, part) / mean.total_us for mean in groups.values()]
        bars = axes.barh(names, shares, left=left, height=0.62, color=COLOURS[place],
                         label=part.removesuffix("_us"), hatch=_HATCHES[place],
                         edgecolor="white", linewidth=0.5)  # fmt: skip
        texts = [f"{share:.0f} %" if share >= 6 else "" for share in shares]
        ground = {"facecolor": COLOURS[place], "edgecolor": "none", "pad": 1.5}
        axes.bar_label(bars, texts, label_type="center", color="white", fontsize=9,
                       fontweight="bold", bbox=None if not any(texts) else ground)  # fmt: skip
        left = [a + b for a, b in zip(left, shares, strict=True)]
    dress(axes, ink, x="share of the mean time, %", y="")
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    legend_above(axes, ink)
    return figure
