"""The learning curve as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankers.pictures import FIRST, INK, SECOND, draw_svg, plain_axes

if TYPE_CHECKING:
    from rankers.training.options import Training

_UNITS = {"pointwise": "nats a row", "pairwise": "a request", "listwise": "nats a request"}


def learning_curve_svg(training: Training, title: str) -> str:
    """Return training loss over steps, and the metric after each epoch, as an SVG file's text.

    Args:
        training: What training came to.
        title: Above the picture.
    """
    metric = training.options.metric
    steps = [step for step, _ in training.curve]
    each_epoch = steps[-1] / len(training.epochs)

    def draw(figure: Any) -> None:
        left = figure.add_subplot()
        left.plot(steps, [loss for _, loss in training.curve], color=FIRST, linewidth=1.8)
        left.set_xlabel(f"steps of {training.options.batch_rows:,} rows", color=INK)
        unit = _UNITS[training.options.loss]
        left.set_ylabel(f"training loss, {unit} ({training.options.loss})", color=FIRST)
        left.set_xlim(0, None)
        right = left.twinx()
        noted = [
            (number * each_epoch, epoch[metric])
            for number, epoch in enumerate(training.epochs, 1)
            if epoch[metric] is not None
        ]
        right.plot(
            *zip(*noted, strict=True), color=SECOND, marker="o", markersize=6, linestyle="--"
        )
        right.set_ylabel(f"{metric} after each epoch", color=SECOND)
        left.set_title(title, color=INK, loc="left", fontsize=11)
        for axes in (left, right):
            plain_axes(axes)
        left.grid(visible=True, color=INK, alpha=0.15, linewidth=0.8)

    return draw_svg(draw, title=title, size=(7.2, 4.2))
