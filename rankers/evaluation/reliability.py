"""Calibration bin by bin: which share of the candidates given a probability were clicked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.intervals import RatioOverDraws, percentile_interval, request_draws
from rankers.metrics import CALIBRATION_BINS, calibration_bin, probability_of
from rankers.pictures import FIRST, INK, SECOND, draw_svg, plain_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import ScoreKind
    from rankers.requests import Array


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One of the bins of the calibration error.

    Attributes:
        rows: How many candidates.
        predicted: Their mean probability.
        observed: Their mean label: the share that was clicked.
        low: The lower end of the 95 % interval of ``observed``, over requests drawn anew.
        high: Its upper end.
    """

    rows: int
    predicted: float
    observed: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return the bin as JSON-ready data."""
        return asdict(self)


def reliability(
    scores: Array,
    labels: Array,
    offsets: Array,
    kind: ScoreKind,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[ReliabilityBin, ...]:
    """Compare probabilities with clicks in 15 bins with equal shares of the candidates.

    Args:
        scores: Of kind ``probability`` or ``logit``, ``[ΣN]``.
        labels: As in `rankers.quality.quality`.
        offsets: As there.
        kind: As there.
        resamples: How many times the requests are drawn anew.
        seed: Of those draws.

    Returns:
        The bins that hold a candidate, in the order of their probability.
    """
    requests = len(offsets) - 1
    probability = probability_of(scores, kind)
    bins = calibration_bin(probability)
    cell = np.repeat(np.arange(requests), np.diff(offsets)) * CALIBRATION_BINS + bins

    def sums(values: Array | None) -> Array:
        found = np.bincount(cell, weights=values, minlength=requests * CALIBRATION_BINS)
        return found.reshape(requests, CALIBRATION_BINS).astype(np.float64)  # by request and bin

    rows, clicks, predicted = sums(None), sums(labels), sums(probability)
    held = np.flatnonzero(rows.sum(axis=0))
    shares = [RatioOverDraws(clicks[:, each], rows[:, each]) for each in held]
    drawn: list[list[Array]] = [[] for _ in held]
    for draws in request_draws(requests, resamples, seed, rows=requests):
        for place, share in enumerate(shares):
            drawn[place].append(share(draws))
    found = []
    for place, each in enumerate(held):
        count = rows[:, each].sum()
        observed = float(clicks[:, each].sum() / count)
        interval = percentile_interval(observed, np.concatenate(drawn[place]))
        found.append(
            ReliabilityBin(
                rows=int(count),
                predicted=float(predicted[:, each].sum() / count),
                observed=observed,
                low=interval.low if np.isfinite(interval.low) else 0.0,
                high=interval.high if np.isfinite(interval.high) else 1.0,
            )
        )
    return tuple(found)


def reliability_svg(curves: Mapping[str, Sequence[ReliabilityBin]], title: str) -> str:
    """Return a reliability plot of one or two rankers as an SVG file's text.

    Args:
        curves: The bins of each ranker, by its name.
        title: Above the picture.
    """

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        ends = [each for bins in curves.values() for x in bins for each in (x.predicted, x.high)]
        most = min(1.0, max(ends) * 1.05)
        axes.plot([0, most], [0, most], color=INK, linewidth=1, linestyle=":")
        axes.annotate("calibrated", (most, most), color=INK, alpha=0.7, fontsize=9, rotation=45,
                      xytext=(-6, -10), textcoords="offset points", ha="right", va="top",
                      rotation_mode="anchor")  # fmt: skip
        marks = zip(curves.items(), ((FIRST, "o"), (SECOND, "s")), strict=False)
        for (name, bins), (color, marker) in marks:
            shares = np.array([each.observed for each in bins])
            errors = [
                np.maximum(0, shares - [each.low for each in bins]),
                np.maximum(0, [each.high for each in bins] - shares),
            ]
            axes.errorbar(
                [each.predicted for each in bins], shares, yerr=errors, color=color, marker=marker,
                markersize=5, linewidth=1.4, elinewidth=1, capsize=2.5, label=name,
            )  # fmt: skip
        axes.set_xlabel("mean predicted probability of the bin", color=INK)
        axes.set_ylabel("share clicked, with its 95 % interval", color=INK)
        axes.set_xlim(0, most)
        axes.set_ylim(0, most)
        axes.set_title(title, color=INK, loc="left", fontsize=11)
        axes.grid(visible=True, color=INK, alpha=0.15, linewidth=0.8)
        plain_axes(axes)
        axes.legend(loc="upper left", frameon=False, labelcolor=INK)

    return draw_svg(draw, title=title, size=(5.6, 5.2))
