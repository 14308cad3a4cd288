"""How well scores rank, and how sure a difference between two rankers' scores is.

Nothing here imports torch: gates run in processes that never load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError
from rankers.intervals import (
    AUCOverDraws,
    CalibrationOverDraws,
    Interval,
    RatioOverDraws,
    difference_interval,
    ratio,
    request_draws,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rankers.features import ScoreKind
    from rankers.requests import Array

CALIBRATION_BINS = 15
NDCG_CUTOFF = 10

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
    """

    auc: float | None
    gauc: float | None
    ndcg_at_10: float | None
    logloss: float | None
    calibration_error: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as JSON-ready data."""
        return {name: getattr(self, name) for name in METRICS}


def quality(scores: Array, labels: Array, offsets: Array, kind: ScoreKind) -> Quality:
    """Judge scores on labelled requests.

    Args:
        scores: One for each candidate, ``[ΣN]``; higher ranks first.
        labels: Clicks (0 or 1) or grades (0 and up), ``[ΣN]``.
        offsets: Request r holds the candidates ``offsets[r]:offsets[r + 1]``, ``[R + 1]``.
        kind: What the score means; see `rankers.features.Signature`.

    Raises:
        UserError: Scores are not finite or not probabilities, labels do not fit, or lengths differ.
    """
    metrics = _metrics(scores, labels, offsets, kind)
    everything = np.ones((1, len(offsets) - 1))
    values = {name: float(metric(everything)[0]) for name, metric in metrics.items()}
    return Quality(
        **{name: None if np.isnan(values.get(name, np.nan)) else values[name] for name in METRICS}
    )


def quality_difference(
    reference: Array,
    scores: Array,
    labels: Array,
    offsets: Array,
    kind: ScoreKind,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compare two rankers' scores of the same requests, metric by metric.

    Args:
        reference: Scores of the ranker to compare with, ``[ΣN]``.
        scores: Scores of the ranker in question, ``[ΣN]``.
        labels: As in `quality`.
        offsets: As in `quality`.
        kind: As in `quality`; the same for both.
        resamples: How many times the requests are drawn anew.
        seed: Of those draws.

    Returns:
        By metric, ``scores``' value less ``reference``'s with its 95 % interval from a paired
        bootstrap over requests. A metric undefined on these requests is left out.

    Raises:
        UserError: As in `quality`.
    """
    # Both in the same bins: a score that moves by a rounding step must not change its bin in one.
    middle = (reference + scores) / 2 if reference.shape == scores.shape else reference
    old = _metrics(reference, labels, offsets, kind, binned_by=middle)
    new = _metrics(scores, labels, offsets, kind, binned_by=middle)
    everything = np.ones((1, len(offsets) - 1))
    estimates = {name: float((new[name](everything) - old[name](everything))[0]) for name in new}
    names = [name for name in METRICS if not np.isnan(estimates.get(name, np.nan))]
    differences: dict[str, list[Array]] = {name: [] for name in names}
    for draws in request_draws(len(offsets) - 1, resamples, seed, rows=len(labels)):
        for name in names:
            differences[name].append(new[name](draws) - old[name](draws))
    return {
        name: difference_interval(estimates[name], np.concatenate(differences[name]))
        for name in names
    }


def _metrics(
    scores: Array,
    labels: Array,
    offsets: Array,
    kind: ScoreKind,
    *,
    binned_by: Array | None = None,
) -> dict[str, Callable[[Array], Array]]:
    """Return each metric as a function of how often every request was drawn, ``[block, R]``."""
    _check(scores, labels, offsets, kind)
    counts = np.diff(offsets)
    request = np.repeat(np.arange(len(counts)), counts)  # of each row, [ΣN]
    positive = labels > 0
    within = _auc_by_request(scores, positive, request, len(counts))
    ndcg = _ndcg_by_request(scores, labels, offsets)
    metrics: dict[str, Callable[[Array], Array]] = {
        "auc": AUCOverDraws(scores, positive, request),
        "gauc": _mean_over_draws(within, counts.astype(np.float64)),
        "ndcg_at_10": _mean_over_draws(ndcg, np.ones(len(counts))),
    }
    if kind != "relevance":
        probability = _probability(scores, kind)
        losses = _losses(scores, probability, labels, kind)
        sums = np.bincount(request, weights=losses, minlength=len(counts))
        binned = probability if binned_by is None else _probability(binned_by, kind)
        gaps = _calibration_gaps(probability, binned, labels, request, len(counts))
        metrics["logloss"] = RatioOverDraws(sums, counts.astype(np.float64))
        metrics["calibration_error"] = CalibrationOverDraws(gaps, counts.astype(np.float64))
    return metrics


def _check(scores: Array, labels: Array, offsets: Array, kind: ScoreKind) -> None:
    if scores.shape != labels.shape or scores.ndim != 1 or int(offsets[-1]) != len(labels):
        raise UserError(
            f"scores have shape {scores.shape} and labels {labels.shape} for {int(offsets[-1])} "
            "candidates; expected one of each for every candidate"
        )
    if not len(labels):
        raise UserError("there are no candidates to judge the scores on")
    _check_finite("scores", scores)
    _check_finite("labels", labels)
    if float(labels.min()) < 0:
        raise UserError(f"a label is {labels.min()}; labels are 0 and up")
    if kind == "relevance":
        return
    if float(labels.max()) > 1:
        raise UserError(
            f"a label is {labels.max()}, but scores of kind {kind!r} are judged on clicks, 0 or 1; "
            "graded labels need score kind 'relevance'"
        )
    if kind == "probability" and (float(scores.min()) < 0 or float(scores.max()) > 1):
        bad = scores.min() if float(scores.min()) < 0 else scores.max()
        raise UserError(
            f"a score is {bad:.6g}, but the signature says probability, 0 to 1; "
            "score kind 'logit' or 'relevance' may be meant"
        )


def _check_finite(what: str, values: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(values)} {what} are not finite, the first {values[bad[0]]} "
            f"in row {bad[0]}; a ranker must score every candidate with a finite number"
        )


def _mean_over_draws(values: Array, weights: Array) -> RatioOverDraws:
    """Average per-request values ``[R]``; nan ones are left out with their weights."""
    defined = ~np.isnan(values)
    return RatioOverDraws(np.where(defined, values, 0.0) * weights, defined * weights)


def _auc_by_request(scores: Array, positive: Array, request: Array, requests: int) -> Array:
    """Return the AUC within each request, ``[R]``; nan where one class is missing.

    By rank sums (Mann and Whitney), with tied rows sharing their mean rank.
    """
    order = np.lexsort((scores, request))
    sorted_request = request[order]
    starts = _run_starts(sorted_request, scores[order])
    lengths = np.diff(starts, append=len(order))
    # Ranks count over all rows; what comes before a request's first row is taken off below.
    ranks = np.repeat(starts + (lengths + 1) / 2, lengths)
    won = positive[order]
    wins = np.bincount(sorted_request[won], weights=ranks[won], minlength=requests)
    positives = np.bincount(sorted_request[won], minlength=requests).astype(np.float64)
    rows = np.bincount(request, minlength=requests)
    before = np.cumsum(rows) - rows
    pairs = positives * (rows - positives)
    return ratio(wins - positives * before - positives * (positives + 1) / 2, pairs)


def _ndcg_by_request(scores: Array, labels: Array, offsets: Array) -> Array:
    """Return NDCG@10 of each request, ``[R]``; nan where nothing is relevant."""
    counts = np.diff(offsets)
    request = np.repeat(np.arange(len(counts)), counts)
    best = _dcg(labels, labels, request, offsets)
    return ratio(_dcg(scores, labels, request, offsets), best)


def _dcg(scores: Array, labels: Array, request: Array, offsets: Array) -> Array:
    """Return DCG@10 of each request; tied rows share the mean of their gains."""
    order = np.lexsort((-scores, request))
    place = np.arange(len(order)) - offsets[request]  # within its request, from 0
    discounts = np.where(place < NDCG_CUTOFF, 1 / np.log2(place + 2.0), 0.0)
    starts = _run_starts(request, scores[order])
    lengths = np.diff(starts, append=len(order))
    gains = np.add.reduceat(labels[order].astype(np.float64), starts) / lengths
    dcg: Array = np.bincount(
        request[starts],
        weights=gains * np.add.reduceat(discounts, starts),
        minlength=len(offsets) - 1,
    )
    return dcg


def _run_starts(request: Array, scores: Array) -> Array:
    """Return where runs of equal (request, score) begin in sorted rows."""
    changed = (np.diff(request) != 0) | (np.diff(scores) != 0)
    return np.concatenate([[0], np.flatnonzero(changed) + 1])


def _probability(scores: Array, kind: ScoreKind) -> Array:
    values = scores.astype(np.float64)
    if kind == "logit":
        return np.exp(-np.logaddexp(0.0, -values))
    return values


def _losses(scores: Array, probability: Array, labels: Array, kind: ScoreKind) -> Array:
    """Return each row's cross-entropy in nats; from logits without rounding to 0 or 1 first."""
    if kind == "logit":
        values = scores.astype(np.float64)
        return np.logaddexp(0.0, values) - labels * values
    # As scikit-learn: a probability is kept one rounding step of its type away from 0 and 1.
    step = np.finfo(scores.dtype).eps
    kept = np.clip(probability, step, 1 - step)
    losses: Array = -(labels * np.log(kept) + (1 - labels) * np.log1p(-kept))
    return losses


def _calibration_gaps(
    probability: Array, binned_by: Array, labels: Array, request: Array, requests: int
) -> Array:
    """Return Σ(probability - label) by request and bin, ``[R, bins]``.

    Bins hold equal shares of ``binned_by``, whose equal values share one.
    """
    edges = np.quantile(binned_by, np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS)
    bins = np.searchsorted(edges, binned_by, side="right")
    sums = np.bincount(
        request * CALIBRATION_BINS + bins,
        weights=probability - labels,
        minlength=requests * CALIBRATION_BINS,
    )
    gaps: Array = sums.reshape(requests, CALIBRATION_BINS)
    return gaps
