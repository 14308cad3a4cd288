"""How well scores rank: AUC, GAUC, NDCG@10, logloss and calibration, and how they differ.

Nothing here imports torch. Differences come with a paired bootstrap over *requests*: candidates of
one request are not independent, and both sets of scores are judged on the same draws, so that even
differences far below the metric's own uncertainty can be told from none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rankers.features import ScoreKind
    from rankers.requests import Array, RequestBatch

CALIBRATION_BINS = 15
NDCG_CUT = 10
_CONFIDENCE = 0.95
# Resampled at once: a matrix of this many draws by all requests fits in memory for long logs.
_BLOCK = 100
# Requests up to which the AUC of draws goes through a table of all pairs of requests (32 MB).
_LARGEST_PAIR_TABLE = 2000


@dataclass(frozen=True, slots=True)
class Quality:
    """Ranking metrics of one set of scores; None where the labels or scores do not define one.

    Attributes:
        auc: Area under the ROC curve over all candidates. A label above 0 is a positive.
        gauc: The AUC within each request, weighted by its candidates; requests whose candidates
            are all positive or all negative are left out.
        ndcg_at_10: Mean over requests with a positive, linear gains, ties averaged.
        logloss: Mean negative log-likelihood of binary labels.
        calibration_error: Expected calibration error: 15 bins of equal mass, mean absolute
            difference of mean score and share of positives, weighted by candidates.
    """

    auc: float | None
    gauc: float | None
    ndcg_at_10: float | None
    logloss: float | None
    calibration_error: float | None


METRICS = ("auc", "gauc", "ndcg_at_10", "logloss", "calibration_error")


@dataclass(frozen=True, slots=True)
class Difference:
    """How one metric differs between two sets of scores on the same requests.

    Attributes:
        reference: Of the reference scores.
        value: Of the other scores.
        delta: ``value - reference``.
        low: Lower end of the 95 % interval of ``delta``.
        high: Upper end.
    """

    reference: float
    value: float
    delta: float
    low: float
    high: float


def quality(scores: Array, requests: RequestBatch, kind: ScoreKind) -> Quality:
    """Judge scores on labelled requests.

    Args:
        scores: ``[ΣN]``, in the order of the requests' candidates.
        requests: With labels.
        kind: What a score means. Logits go through the sigmoid; relevance has no logloss and no
            calibration.

    Raises:
        UserError: There are no labels, the numbers of scores and labels differ, or a score is not
            finite.
    """
    return _quality(_Statistics(scores, requests, kind))


def _quality(found: _Statistics) -> Quality:
    from sklearn.metrics import log_loss, roc_auc_score

    once = np.ones((1, len(found.sizes)))
    return Quality(
        auc=_first(float(roc_auc_score(found.positive, found.scores)))
        if 0 < found.positive.sum() < len(found.positive)
        else None,
        gauc=_first(found.gauc(once)[0]),
        ndcg_at_10=_first(found.ndcg(once)[0]),
        logloss=None
        if found.probability is None
        else float(log_loss(found.labels, found.probability.astype(np.float64), labels=[0, 1])),
        calibration_error=None
        if found.probability is None
        else _first(found.calibration_error(once)[0]),
    )


def quality_difference(
    reference: Array,
    scores: Array,
    requests: RequestBatch,
    kind: ScoreKind,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """Compare two sets of scores on the same requests.

    Args:
        reference: The scores to compare with, ``[ΣN]``.
        scores: The others, ``[ΣN]``.
        requests: With labels.
        kind: What a score means, as for `quality`.
        resamples: Draws of the bootstrap.
        seed: Of the draws.

    Returns:
        The difference of every metric that is defined, by its name in `METRICS`.

    Raises:
        UserError: As for `quality`.
    """
    statistics = [_Statistics(each, requests, kind) for each in (reference, scores)]
    values = [_quality(each) for each in statistics]
    drawn: dict[str, list[Array]] = {name: [] for name in METRICS}
    random = np.random.default_rng(seed)
    count = len(requests)
    for start in range(0, resamples, _BLOCK):
        block = min(_BLOCK, resamples - start)
        # How often each request was drawn, [block, R].
        draws = random.multinomial(count, np.full(count, 1 / count), size=block).astype(np.float64)
        for name in METRICS:
            if getattr(values[0], name) is not None:
                before, after = (each.metric(name)(draws) for each in statistics)
                drawn[name].append(after - before)
    found = {}
    for name in METRICS:
        before, after = (getattr(each, name) for each in values)
        if before is None or after is None:
            continue
        differences = np.concatenate(drawn[name])
        tails = (50 * (1 - _CONFIDENCE), 50 * (1 + _CONFIDENCE))
        # A draw without a positive has no AUC: it tells nothing.
        low, high = np.nanpercentile(differences, tails)
        found[name] = Difference(before, after, after - before, float(low), float(high))
    return found


class _Statistics:
    """What of one set of scores is the same in every resample of its requests."""

    def __init__(self, scores: Array, requests: RequestBatch, kind: ScoreKind) -> None:
        labels = requests.labels
        if labels is None:
            raise UserError("the requests have no labels: their ranking cannot be judged")
        if scores.shape != labels.shape:
            raise UserError(f"{scores.shape} scores for {labels.shape} labels")
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise UserError(f"score {bad[0]} is {scores[bad[0]]}: scores must be finite")
        self.scores = scores
        self.labels = labels
        self.positive = labels > 0
        self.offsets = requests.offsets
        self.sizes = np.diff(requests.offsets).astype(np.float64)  # N of each request, [R]
        self.request = np.repeat(np.arange(len(requests)), requests.candidates)  # [ΣN]
        binary = bool(np.isin(labels, (0, 1)).all())
        self.probability = _probability(scores, kind) if binary else None
        self._prepare_auc()
        self._prepare_within_requests()
        if self.probability is not None:
            self._prepare_probability(self.probability)

    def metric(self, name: str) -> Callable[[Array], Array]:
        """Return a metric as a function of draws, ``[B, R]`` → ``[B]``."""
        return {
            "auc": self.auc,
            "gauc": self.gauc,
            "ndcg_at_10": self.ndcg,
            "logloss": self.logloss,
            "calibration_error": self.calibration_error,
        }[name]

    def auc(self, draws: Array) -> Array:
        """AUC with each candidate counted as often as its request was drawn; ties count half."""
        if len(self.sizes) > _LARGEST_PAIR_TABLE:
            return self.auc_by_sorting(draws)
        if self._in_order is None:
            self._in_order = self._count_pairs()
        positive = draws @ np.bincount(self.request, self.positive, len(self.sizes))
        negative = draws @ np.bincount(self.request, ~self.positive, len(self.sizes))
        ordered = np.einsum("br,rs,bs->b", draws, self._in_order, draws, optimize=True)
        return _ratio(ordered, positive * negative)

    def auc_by_sorting(self, draws: Array) -> Array:
        """The same, one draw at a time: for logs of so many requests that a table is too large."""
        found = np.empty(len(draws))
        for place, draw in enumerate(draws):
            weights = draw[self._sorted_request]
            positive = np.add.reduceat(np.where(self._sorted_positive, weights, 0), self._groups)
            negative = np.add.reduceat(np.where(self._sorted_positive, 0, weights), self._groups)
            below = np.cumsum(negative) - negative / 2
            pairs = positive.sum() * negative.sum()
            found[place] = positive @ below / pairs if pairs else np.nan
        return found

    def gauc(self, draws: Array) -> Array:
        """Mean AUC within requests, weighted by candidates."""
        return _ratio(
            draws @ (self._mixed * self.sizes * self._aucs), draws @ (self._mixed * self.sizes)
        )

    def ndcg(self, draws: Array) -> Array:
        """Mean NDCG@10 of requests with a positive."""
        return _ratio(draws @ self._ndcgs, draws @ self._relevant)

    def logloss(self, draws: Array) -> Array:
        """Mean loss of a candidate."""
        return _ratio(draws @ self._losses, draws @ self.sizes)

    def calibration_error(self, draws: Array) -> Array:
        """Expected calibration error; the bins are those of all scores."""
        return _ratio(np.abs(draws @ self._gaps).sum(axis=1), draws @ self.sizes)

    def _count_pairs(self) -> Array:
        """Count, for each two requests, the pairs that are in order: ``[R, R]``.

        Entry (r, s) is how many (positive of r, negative of s) have the positive's score above the
        negative's; ties count half. The AUC of any draw is a quadratic form of it, some 20 times
        faster than sorting each draw.
        """
        total = len(self.sizes)
        positives = self._sorted_positive
        scores = self.scores[self._order][positives]
        owner = self._sorted_request[positives]
        pairs = np.zeros((total, total))
        for place in range(total):
            rows = slice(self.offsets[place], self.offsets[place + 1])
            negatives = np.sort(self.scores[rows][~self.positive[rows]])
            below = np.searchsorted(negatives, scores, side="left")
            below = below + np.searchsorted(negatives, scores, side="right")
            pairs[:, place] = np.bincount(owner, below / 2, total)
        return pairs

    def _prepare_auc(self) -> None:
        self._in_order: Array | None = None
        self._order = order = np.argsort(self.scores, kind="stable")
        ascending = self.scores[order]
        # Where each run of equal scores begins.
        self._groups = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        self._sorted_request = self.request[order]
        self._sorted_positive = self.positive[order]

    def _prepare_within_requests(self) -> None:
        total = len(self.sizes)
        self._aucs, self._mixed = np.zeros(total), np.zeros(total)
        self._ndcgs, self._relevant = np.zeros(total), np.zeros(total)
        for place in range(total):
            rows = slice(self.offsets[place], self.offsets[place + 1])
            positive, scores = self.positive[rows], self.scores[rows]
            if not positive.any():
                continue
            self._relevant[place] = 1
            self._ndcgs[place] = _ndcg(self.labels[rows], scores)
            if not positive.all():
                self._mixed[place] = 1
                self._aucs[place] = _auc(positive, scores)

    def _prepare_probability(self, probability: Array) -> None:
        total = len(self.sizes)
        inside = np.clip(probability.astype(np.float64), 1e-15, 1 - 1e-15)
        losses = -np.where(self.positive, np.log(inside), np.log1p(-inside))
        self._losses = np.bincount(self.request, losses, total)
        bins = min(CALIBRATION_BINS, len(probability))
        rank = np.empty(len(probability), dtype=np.int64)
        rank[np.argsort(probability, kind="stable")] = np.arange(len(probability))
        place = self.request * bins + rank * bins // len(probability)
        gaps = np.bincount(place, probability - self.positive, total * bins)
        self._gaps = gaps.reshape(total, bins)  # Σ (score - label) by request and bin


def _auc(positive: Array, scores: Array) -> float:
    """The AUC of one request, by ranks (Mann-Whitney); ties count half."""
    from scipy.stats import rankdata

    count = int(positive.sum())
    ranks = rankdata(scores)
    pairs = count * (len(scores) - count)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / pairs)


def _ndcg(gains: Array, scores: Array) -> float:
    from sklearn.metrics import ndcg_score

    if len(scores) == 1:  # scikit-learn refuses one candidate; its order is right
        return 1.0
    return float(ndcg_score(gains[np.newaxis], scores[np.newaxis], k=NDCG_CUT))


def _probability(scores: Array, kind: ScoreKind) -> Array | None:
    if kind == "relevance":
        return None
    if kind == "logit":
        from scipy.special import expit

        sigmoid: Array = expit(scores.astype(np.float64))
        return sigmoid
    return scores


def _ratio(above: Array, below: Array) -> Array:
    """Divide; not a number where nothing was drawn that counts."""
    found: Array = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return found


def _first(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
