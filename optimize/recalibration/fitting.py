"""Fits of an increasing function from scores to click probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optimize.score_map import HIGHEST, LOWEST, Piecewise, Scaled
from rankers.errors import UserError

if TYPE_CHECKING:
    from rankers.features import ScoreKind
    from rankers.requests import Array

# Blocks of fewer rows say next to nothing about their share of clicks.
_LEAST_ROWS = 20


def fit_scaled(scores: Array, labels: Array, kind: ScoreKind, *, shift: bool) -> Scaled:
    """Fit ``sigmoid(scale · logit + shift)`` by maximum likelihood.

    Temperature scaling without the shift (Guo et al., On Calibration of Modern Neural Networks,
    arXiv:1706.04599), Platt's with it (Platt, Probabilistic Outputs for Support Vector Machines,
    1999, without his smoothing of the labels).

    Args:
        scores: float ``[n]``, finite.
        labels: Clicks, 0 to 1, ``[n]``.
        kind: Of the scores; those that only order are taken for logits.
        shift: Whether there is one.

    Raises:
        UserError: The scale is not above 0: more is clicked where scores are lower.
    """
    from sklearn.linear_model import LogisticRegression

    probability = kind == "probability"
    logits = scores.astype(np.float64)
    if probability:
        kept = np.clip(logits, LOWEST, HIGHEST)
        logits = np.log(kept) - np.log1p(-kept)
    # Of unit size, or the optimizer's steps do not suit the scale that is looked for.
    unit = max(float(np.sqrt(np.mean(logits**2))), 1e-12)
    # Twice, as clicked and as not, with the label as weight: labels may be shares of clicks.
    model = LogisticRegression(C=np.inf, fit_intercept=shift, tol=1e-8, max_iter=1000)
    clicked = np.repeat([1, 0], len(labels))
    weights = np.concatenate([labels, 1 - labels]).astype(np.float64)
    model.fit(np.tile(logits / unit, 2)[:, None], clicked, sample_weight=weights)
    scale = float(model.coef_[0, 0]) / unit
    if not scale > 0:
        raise UserError(
            f"the fitted scale is {scale:.3g}: on the calibration requests more is clicked where "
            "scores are lower, so the ranker ranks backwards there; look at its labels and at the "
            "sign of its score"
        )
    return Scaled(scale, float(model.intercept_[0]) if shift else 0.0, probability)


def fit_isotonic(
    scores: Array, labels: Array, kind: ScoreKind, *, knots: int, strict: bool
) -> Piecewise:
    """Fit an increasing function of any form, by blocks of rows with one share of clicks each.

    Zadrozny and Elkan, Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates, KDD 2002. Strict, it goes straight from the middle of one block to that of the next,
    so that no two scores become one (centred isotonic regression: Oron and Flournoy,
    arXiv:1701.05964); else each block is flat.

    Args:
        scores: float ``[n]``, finite.
        labels: Clicks, 0 to 1, ``[n]``.
        kind: Of the scores. A probability becomes a probability, any other a logit.
        knots: The most there may be, from 4; the blocks that are most alike are joined.
        strict: Whether scores are to keep apart.

    Raises:
        UserError: There are not two blocks: what is clicked does not rise with the score.
    """
    most = (knots - 2) // (1 if strict else 2)
    blocks = _joined(_blocks(scores.astype(np.float64), labels), most)
    if len(blocks) < 2:
        raise UserError(
            "on the calibration requests the share of clicks does not rise with the score: there "
            "is nothing to be calibrated; look at its labels and at the sign of its score"
        )
    probability = kind == "probability"
    rates = _rates(blocks)
    values = rates if probability else np.log(rates) - np.log1p(-rates)
    if strict:
        x = np.array([each.middle for each in blocks])
        y = values
    else:
        x = np.array([end for each in blocks for end in (each.low, each.high)])
        y = np.repeat(values, 2)
    slope = 0.0
    if strict and probability:
        # Nothing was seen beyond the outermost blocks: on straight to where 0 and 1 stay.
        x, y = np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]])
    elif strict:
        slope = float((y[-1] - y[0]) / (x[-1] - x[0]))
    x, y = _apart(x, y)
    return Piecewise(tuple(x), tuple(y), slope, probability)


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows with neighbouring scores, taken for alike.

    Attributes:
        rows: How many.
        clicks: How many of them are clicked.
        total: The sum of their scores.
        low: The lowest score.
        high: The highest.
    """

    rows: int
    clicks: float
    total: float
    low: float
    high: float

    @property
    def middle(self) -> float:
        return self.total / self.rows

    @property
    def rate(self) -> float:
        return self.clicks / self.rows

    def with_next(self, other: _Block) -> _Block:
        return _Block(
            self.rows + other.rows,
            self.clicks + other.clicks,
            self.total + other.total,
            self.low,
            other.high,
        )


def _blocks(scores: Array, labels: Array) -> list[_Block]:
    """Cut rows where the isotonic fit rises, scikit-learn's."""
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(scores, kind="stable")
    x = scores[order]
    fitted = IsotonicRegression().fit(x, labels[order].astype(np.float64)).predict(x)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(fitted) > 1e-12) + 1])
    ends = np.append(starts[1:], len(x))
    clicks = np.add.reduceat(labels[order].astype(np.float64), starts)
    totals = np.add.reduceat(x, starts)
    return [
        _Block(int(end - start), float(clicked), float(total), float(x[start]), float(x[end - 1]))
        for start, end, clicked, total in zip(starts, ends, clicks, totals, strict=True)
    ]


def _joined(blocks: list[_Block], most: int) -> list[_Block]:
    """Join neighbours that are most alike until all are of some size and no more than ``most``."""
    left = list(blocks)
    while len(left) > 1:
        few = [n for n, each in enumerate(left) if each.rows < _LEAST_ROWS]
        if not few and len(left) <= most:
            break
        pairs = {p for n in few for p in (n - 1, n) if 0 <= p < len(left) - 1}
        at = min(pairs or range(len(left) - 1), key=lambda n: _lost(left[n], left[n + 1]))
        left[at : at + 2] = [left[at].with_next(left[at + 1])]
    return left


def _lost(one: _Block, other: _Block) -> float:
    """By how much the squared error rises if both have one share of clicks."""
    return one.rows * other.rows / (one.rows + other.rows) * (one.rate - other.rate) ** 2


def _rates(blocks: list[_Block]) -> Array:
    """Return each block's share of clicks, never 0 nor 1: as if half a click more had been seen."""
    rates = np.array([each.rate for each in blocks])
    first, last = blocks[0], blocks[-1]
    if rates[0] <= 0:
        rates[0] = min(0.5 / (first.rows + 1), rates[1] / 2)
    if rates[-1] >= 1:
        rates[-1] = max(1 - 0.5 / (last.rows + 1), (1 + rates[-2]) / 2)
    return rates


def _apart(x: Array, y: Array) -> tuple[Array, Array]:
    """Return knots in float32 that are apart in it; of those that are not, the last."""
    x, y = x.astype(np.float32), y.astype(np.float32)
    kept = np.append(np.diff(x) > 0, True)
    return x[kept], y[kept]
