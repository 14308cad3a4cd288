"""Metrics by name, each as a function of how often every request was drawn.

``auc``, ``gauc``, ``logloss``, ``calibration_error``, and ``ndcg_at_K``, ``mrr_at_K``,
``recall_at_K`` for any K. Nothing here imports torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from rankers.cutoffs import Ties, mrr_at, ndcg_at, recall_at, run_starts
from rankers.errors import UserError, nearest
from rankers.intervals import AUCOverDraws, CalibrationOverDraws, RatioOverDraws, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rankers.features import ScoreKind
    from rankers.requests import Array

    OverDraws = Callable[[Array], Array]

CALIBRATION_BINS = 15
OF_ALL_ROWS = ("auc", "gauc", "logloss", "calibration_error")
AT_CUTOFFS = ("ndcg", "mrr", "recall")
# Of these less is better; scores of kind ``relevance`` do not have them.
LESS_IS_BETTER = frozenset({"logloss", "calibration_error"})

_AT = re.compile(r"([a-z]+)_at_([1-9][0-9]*)")


def check_metric(name: str) -> None:
    """Check that there is a metric of this name.

    Raises:
        UserError: There is none; the message names the nearest.
    """
    found = _AT.fullmatch(name)
    if name in OF_ALL_ROWS or (found and found[1] in AT_CUTOFFS):
        return
    known = (*OF_ALL_ROWS, *(f"{each}_at_10" for each in AT_CUTOFFS))
    raise UserError(f"unknown metric {name!r}; {nearest(name, known)} (any K in _at_K)")


def metric_names(cutoffs: Iterable[int]) -> tuple[str, ...]:
    """Return all metrics, those of the first k places at each of ``cutoffs``."""
    at = [f"{each}_at_{k}" for each in AT_CUTOFFS for k in cutoffs]
    return ("auc", "gauc", *at, "logloss", "calibration_error")


def metrics_over_draws(
    scores: Array,
    labels: Array,
    offsets: Array,
    kind: ScoreKind,
    names: Sequence[str],
    *,
    binned_by: Array | None = None,
) -> dict[str, OverDraws]:
    """Return each metric as a function from draws ``[block, R]`` to values ``[block]``.

    A row of draws says how often every request counts; all ones stand for the requests as they are.

    Args:
        scores: One for each candidate, ``[ΣN]``; higher ranks first.
        labels: Clicks (0 or 1) or grades (0 and up), ``[ΣN]``.
        offsets: Request r holds the candidates ``offsets[r]:offsets[r + 1]``, ``[R + 1]``.
        kind: What the score means.
        names: Which metrics; those that ``kind`` does not have are left out.
        binned_by: What the calibration error's bins are made of; by default ``scores``.

    Raises:
        UserError: Scores are not finite or not probabilities, labels do not fit, lengths differ, or
            a name is unknown.
    """
    for name in names:
        check_metric(name)
    check_scores(scores, labels, offsets, kind)
    counts = np.diff(offsets)
    request = np.repeat(np.arange(len(counts)), counts)  # of each row, [ΣN]
    positive = labels > 0
    weights = counts.astype(np.float64)
    metrics: dict[str, OverDraws] = {}
    if "auc" in names:
        metrics["auc"] = AUCOverDraws(scores, positive, request)
    if "gauc" in names:
        within = _auc_by_request(scores, positive, request, len(counts))
        metrics["gauc"] = _mean_over_draws(within, weights)
    metrics |= _at_cutoffs(scores, labels, offsets, names)
    if kind != "relevance" and not LESS_IS_BETTER.isdisjoint(names):
        probability = probability_of(scores, kind)
        losses = _losses(scores, probability, labels, kind)
        sums = np.bincount(request, weights=losses, minlength=len(counts))
        binned = probability if binned_by is None else probability_of(binned_by, kind)
        gaps = _calibration_gaps(probability, binned, labels, request, len(counts))
        metrics["logloss"] = RatioOverDraws(sums, weights)
        metrics["calibration_error"] = CalibrationOverDraws(gaps, weights)
    return {name: metrics[name] for name in names if name in metrics}


def check_scores(scores: Array, labels: Array, offsets: Array, kind: ScoreKind) -> None:
    """Check scores and labels ``[ΣN]`` of requests, as `metrics_over_draws` does."""
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


def probability_of(scores: Array, kind: ScoreKind) -> Array:
    """Return the probabilities that scores of kind ``probability`` or ``logit`` stand for."""
    values = scores.astype(np.float64)
    if kind == "logit":
        return np.exp(-np.logaddexp(0.0, -values))
    return values


def calibration_bin(probability: Array) -> Array:
    """Return the bin of each row, int64 ``[rows]``: 15 with equal shares of the rows.

    The edges are quantiles, and equal values share a bin, as in scikit-learn's
    ``calibration_curve(strategy="quantile")``.
    """
    edges = np.quantile(probability, np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS)
    return np.searchsorted(edges, probability, side="left")


def _check_finite(what: str, values: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(values)} {what} are not finite, the first {values[bad[0]]} "
            f"in row {bad[0]}; a ranker must score every candidate with a finite number"
        )


def _at_cutoffs(
    scores: Array, labels: Array, offsets: Array, names: Sequence[str]
) -> dict[str, OverDraws]:
    """Return the means over requests of the metrics of the first k places."""
    wanted = [(name, found[1], int(found[2])) for name in names if (found := _AT.fullmatch(name))]
    if not wanted:
        return {}
    ranked, ideal = Ties.of(scores, labels, offsets), Ties.of(labels, labels, offsets)
    metrics: dict[str, OverDraws] = {}
    for name, metric, k in wanted:
        if metric == "ndcg":
            values = ndcg_at(k, ranked, ideal)
        else:
            values = mrr_at(k, ranked) if metric == "mrr" else recall_at(k, ranked)
        metrics[name] = _mean_over_draws(values, np.ones(len(offsets) - 1))
    return metrics


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
    starts = run_starts(sorted_request, scores[order])
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
    """Return Σ(probability - label) by request and bin, ``[R, bins]``."""
    sums = np.bincount(
        request * CALIBRATION_BINS + calibration_bin(binned_by),
        weights=probability - labels,
        minlength=requests * CALIBRATION_BINS,
    )
    gaps: Array = sums.reshape(requests, CALIBRATION_BINS)
    return gaps
