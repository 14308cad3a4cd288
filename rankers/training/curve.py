"""The learning curve as a picture that is right on a light and on a dark page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankers.training.options import Training

_LOSS, _METRIC = "#2f7fd6", "#d9660d"  # each 3:1 or more against white and near-black
# Stands for the page's text colour until the SVG is written.
_INK = "#010203"
_STYLE = (
    "<style>svg{color:#1b1b1b;background:#fff}"
    "@media(prefers-color-scheme:dark){svg{color:#e8e8e8;background:#161616}}</style>"
)
_UNITS = {"pointwise": "nats a row", "pairwise": "a request", "listwise": "nats a request"}


def learning_curve_svg(training: Training, title: str) -> str:
    """Return training loss over steps, and the metric after each epoch, as an SVG file's text.

    Args:
        training: What training came to.
        title: Above the picture.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    metric = training.options.metric
    steps = [step for step, _ in training.curve]
    each_epoch = steps[-1] / len(training.epochs)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        left = figure.add_subplot()
        left.plot(steps, [loss for _, loss in training.curve], color=_LOSS, linewidth=1.8)
        left.set_xlabel(f"steps of {training.options.batch_rows:,} rows", color=_INK)
        unit = _UNITS[training.options.loss]
        left.set_ylabel(f"training loss, {unit} ({training.options.loss})", color=_LOSS)
        left.set_xlim(0, None)
        right = left.twinx()
        noted = [
            (number * each_epoch, epoch[metric])
            for number, epoch in enumerate(training.epochs, 1)
            if epoch[metric] is not None
        ]
        right.plot(
            *zip(*noted, strict=True), color=_METRIC, marker="o", markersize=6, linestyle="--"
        )
        right.set_ylabel(f"{metric} after each epoch", color=_METRIC)
        left.set_title(title, color=_INK, loc="left", fontsize=11)
        for axes in (left, right):
            axes.tick_params(colors=_INK)
            for side, spine in axes.spines.items():
                spine.set_visible(side != "top")
                spine.set_color(_INK)
        left.grid(visible=True, color=_INK, alpha=0.15, linewidth=0.8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r"(<svg[^>]*>)", lambda found: found[0] + _STYLE, text, count=1)
    return text.replace(_INK, "currentColor")
