"""What two scores may differ by because sums were rounded in another order, and no more.

A kernel that adds in another order, a folded constant or a fused operator moves a float32 score by
some rounding steps. Among thousands of candidates many lie that close together, so their order in
the whole changes, and with it the AUC, by one pair in 10⁵ or 10⁶ each. That is chance, not loss: a
comparison first takes each score that moved by rounding alone for the original's.

The step is relative to what a ranker tells apart, never an absolute number: scores that all lie
below 1e-5 would otherwise be all alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankers.metrics import probability_of

if TYPE_CHECKING:
    from rankers.features import ScoreKind
    from rankers.requests import Array

# Of the spread of the scores of a request (of a probability: of its logit). At a probability of one
# half and a spread of 1 it is 1e-5, the parity gate's largest difference of "the same to rounding".
RELATIVE = 4e-5
# And so many steps of the type itself: what is left of a saturated probability's precision.
_STEPS = 4


def rounding(scores: Array, offsets: Array, kind: ScoreKind) -> Array:
    """Return how far each score may move by rounding alone.

    Args:
        scores: The original's, float32 or float64 ``[ΣN]``, finite.
        offsets: Request r holds the candidates ``offsets[r]:offsets[r + 1]``, ``[R + 1]``.
        kind: What a score means.

    Returns:
        float64 ``[ΣN]``: 4e-5 of the spread within a request, and 4 steps of the type. For
        probabilities the spread is that of logits (at most 1), brought back by the sigmoid's slope.
    """
    steps = _STEPS * np.spacing(np.abs(scores)).astype(np.float64)
    if kind != "probability":
        return RELATIVE * _spread(scores.astype(np.float64), offsets) + steps
    probability = probability_of(scores, kind)
    kept = np.clip(probability, 1e-12, 1 - 1e-12)
    spread = min(1.0, _spread(np.log(kept) - np.log1p(-kept), offsets))
    allowed: Array = RELATIVE * spread * probability * (1 - probability) + steps
    return allowed


def without_rounding(reference: Array, scores: Array, offsets: Array, kind: ScoreKind) -> Array:
    """Return ``scores`` with those that moved by rounding alone put back to ``reference``'s.

    Every score that moved further stays as it is, so a metric of the result differs from the
    reference's by what those do and by nothing else.

    Args:
        reference: The original's scores, ``[ΣN]``, finite.
        scores: The other's, ``[ΣN]``.
        offsets: As for `rounding`.
        kind: As for `rounding`.
    """
    moved = np.abs(scores.astype(np.float64) - reference) > rounding(reference, offsets, kind)
    return np.where(moved, scores, reference)


def _spread(values: Array, offsets: Array) -> float:
    """Return the usual standard deviation within a request: the median over requests.

    Not over all rows: where users differ far more than their candidates, it is the candidates that
    are ranked. Requests of one candidate have none; if there are no others, it is over all rows.
    """
    counts = np.diff(offsets)
    request = np.repeat(np.arange(len(counts)), counts)
    means = np.bincount(request, weights=values, minlength=len(counts)) / np.maximum(counts, 1)
    squares = np.bincount(request, weights=(values - means[request]) ** 2, minlength=len(counts))
    several = counts > 1
    if not several.any():
        return float(np.std(values))
    return float(np.median(np.sqrt(squares[several] / counts[several])))
