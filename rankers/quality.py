"""How well scores rank, and how sure a difference between two rankers' scores is.

Nothing here imports torch: gates run in processes that never load it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.intervals import Interval, percentile_interval, request_draws
from rankers.metrics import CALIBRATION_BINS, metrics_over_draws

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rankers.features import ScoreKind
    from rankers.requests import Array

__all__ = [
    "CALIBRATION_BINS",
    "METRICS",
    "Quality",
    "quality",
    "quality_difference",
    "quality_intervals",
]

# What every judgement has, and what gates limit; `rankers.metrics` has more, by name.
METRICS = ("auc", "gauc", "ndcg_at_10", "logloss", "calibration_error")


@dataclass(frozen=True, slots=True)
class Quality:
    """Ranking quality on labelled requests. A metric that is undefined there is None.

    Attributes:
        auc: Area under the ROC curve over all rows; a label above 0 counts as positive.
        gauc: The AUC within each request, averaged with the requests' candidates as weights;
            requests without both classes are left out (Zhu et al., KDD 2017).
        ndcg_at_10: Mean over requests of NDCG@10 with linear gains, ties averaged as scikit-learn
            does; requests without a relevant candidate are left out.
        logloss: Mean binary cross-entropy in nats; None for score kind ``relevance``.
        calibration_error: Expected calibration error over 15 bins of equal mass; None for score
            kind ``relevance``.
        more: Metrics that were asked for besides, by name.
    """

    auc: float | None
    gauc: float | None
    ndcg_at_10: float | None
    logloss: float | None
    calibration_error: float | None
    more: Mapping[str, float | None] = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """Return the metric called ``name``, one of `METRICS` or of those asked for."""
        if name in METRICS:
            found: float | None = getattr(self, name)
            return found
        return self.more[name]

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as JSON-ready data."""
        return {name: getattr(self, name) for name in METRICS} | dict(self.more)


def quality(
    scores: Array, labels: Array, offsets: Array, kind: ScoreKind, *, more: Sequence[str] = ()
) -> Quality:
    """Judge scores on labelled requests.

    Args:
        scores: One for each candidate, ``[ΣN]``; higher ranks first.
        labels: Clicks (0 or 1) or grades (0 and up), ``[ΣN]``.
        offsets: Request r holds the candidates ``offsets[r]:offsets[r + 1]``, ``[R + 1]``.
        kind: What the score means; see `rankers.features.Signature`.
        more: Names of `rankers.metrics` to find besides `METRICS`.

    Raises:
        UserError: Scores are not finite or not probabilities, labels do not fit, lengths differ, or
            a name is unknown.
    """
    names = tuple(dict.fromkeys((*METRICS, *more)))
    metrics = metrics_over_draws(scores, labels, offsets, kind, names)
    everything = np.ones((1, len(offsets) - 1))
    values = {name: float(metric(everything)[0]) for name, metric in metrics.items()}
    found = {name: None if np.isnan(values.get(name, np.nan)) else values[name] for name in names}
    return Quality(
        **{name: found.pop(name) for name in METRICS},
        more=found,
    )


def quality_intervals(
    scores: Array,
    labels: Array,
    offsets: Array,
    kind: ScoreKind,
    names: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Judge scores with the 95 % interval of each metric, from a bootstrap over requests.

    The calibration error is left out: resampling makes every bin noisier and so its error larger,
    and a percentile interval would lie above the estimate.

    Args:
        scores: As in `quality`.
        labels: As in `quality`.
        offsets: As in `quality`.
        kind: As in `quality`.
        names: Which metrics of `rankers.metrics`.
        resamples: How many times the requests are drawn anew.
        seed: Of those draws; the same as in `quality_difference` gives the same draws.

    Raises:
        UserError: As in `quality`.
    """
    chosen = [name for name in names if name != "calibration_error"]
    metrics = metrics_over_draws(scores, labels, offsets, kind, chosen)
    return _intervals(metrics, offsets, resamples, seed)


def quality_difference(
    reference: Array,
    scores: Array,
    labels: Array,
    offsets: Array,
    kind: ScoreKind,
    *,
    names: Sequence[str] = METRICS,
    same_bins: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Compare two rankers' scores of the same requests, metric by metric.

    Args:
        reference: Scores of the ranker to compare with, ``[ΣN]``.
        scores: Scores of the ranker in question, ``[ΣN]``.
        labels: As in `quality`.
        offsets: As in `quality`.
        kind: As in `quality`; the same for both.
        names: Which metrics of `rankers.metrics`.
        same_bins: Whether both calibration errors are of the same bins, those of the mean score: a
            score that moves by a rounding step then does not change its bin in one of them. For
            rankers that are not copies of each other, bins of their own are right.
        resamples: How many times the requests are drawn anew.
        seed: Of those draws.
        confidence: Of the intervals.

    Returns:
        By metric, ``scores``' value less ``reference``'s with its interval from a paired
        bootstrap over requests. A metric undefined on these requests is left out.

    Raises:
        UserError: As in `quality`.
    """
    middle = (reference + scores) / 2 if same_bins and reference.shape == scores.shape else None
    old = metrics_over_draws(reference, labels, offsets, kind, names, binned_by=middle)
    new = metrics_over_draws(scores, labels, offsets, kind, names, binned_by=middle)

    def change(name: str) -> Callable[[Array], Array]:
        return lambda draws: new[name](draws) - old[name](draws)

    changes = {name: change(name) for name in new}
    return _intervals(changes, offsets, resamples, seed, confidence)


def _intervals(
    metrics: Mapping[str, Callable[[Array], Array]],
    offsets: Array,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Return each metric of all requests with its percentile interval; undefined ones left out."""
    everything = np.ones((1, len(offsets) - 1))
    estimates = {name: float(metric(everything)[0]) for name, metric in metrics.items()}
    names = [name for name, value in estimates.items() if not np.isnan(value)]
    drawn: dict[str, list[Array]] = {name: [] for name in names}
    for draws in request_draws(len(offsets) - 1, resamples, seed, rows=int(offsets[-1])):
        for name in names:
            drawn[name].append(metrics[name](draws))
    return {
        name: percentile_interval(estimates[name], np.concatenate(drawn[name]), confidence)
        for name in names
    }
