"""Calibration requests cut in two: those that a function is fitted to, and those that judge it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError
from rankers.leaks import request_hashes
from rankers.rounding import rounding

if TYPE_CHECKING:
    from optimize.score_map import ScoreMap
    from rankers.features import ScoreKind
    from rankers.intervals import Interval
    from rankers.quality import Quality
    from rankers.requests import Array, RequestBatch

# Requests of either part: with fewer an interval over requests proves nothing.
LEAST_REQUESTS = 20


@dataclass(frozen=True)
class Judged:
    """What a function does to requests that it was not fitted to.

    Attributes:
        before: How well the scores fit the clicks.
        after: How well what they become does.
        changes: By metric what changed, with its interval.
        pairs: Candidates of one request, two and two, that the scores tell apart.
        tied: How many of these pairs become one score.
    """

    before: Quality
    after: Quality
    changes: dict[str, Interval]
    pairs: int
    tied: int

    @property
    def helps(self) -> bool:
        """Whether the logloss falls, all of its interval."""
        return self.changes["logloss"].high < 0

    def describe(self) -> str:
        """Say in a line what it did."""
        change = self.changes["logloss"]
        return (
            f"logloss {self.before.logloss:.4f} to {self.after.logloss:.4f} "
            f"({change.estimate:+.2g} [{change.low:+.2g}, {change.high:+.2g}]), calibration error "
            f"{self.before.calibration_error:.4f} to {self.after.calibration_error:.4f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "changes": {name: each.to_json() for name, each in self.changes.items()},
            "pairs": self.pairs,
            "tied": self.tied,
            "helps": self.helps,
        }


def clicks_of(requests: RequestBatch) -> Array:
    """Return the labels of calibration requests, ``[ΣN]``.

    Raises:
        UserError: There are none, they are no clicks, or all alike.
    """
    labels = requests.labels
    if labels is None:
        raise UserError(
            "the calibration requests have no labels, and recalibration is fitted to clicks: give "
            "Ranker(calibration=…) requests with labels 0 or 1 that training has not seen"
        )
    low, high = float(labels.min()), float(labels.max())
    if low < 0 or high > 1:
        raise UserError(
            f"the calibration requests' labels run from {low:g} to {high:g}; recalibration is "
            "fitted to clicks, 0 to 1: grades have no probability"
        )
    if low == high:
        raise UserError(
            f"all labels of the calibration requests are {low:g}; recalibration needs some that "
            "are clicked and some that are not"
        )
    return labels


def split_requests(requests: RequestBatch, share: float, seed: int) -> tuple[Array, Array]:
    """Draw the requests that judge; requests of equal content are on the same side.

    Args:
        requests: All that there are.
        share: Of them that judge.
        seed: Of the draw.

    Returns:
        The numbers of those to fit to and of those that judge, int64, ascending.

    Raises:
        UserError: One of the parts is too small to tell anything.
    """
    _, kinds = np.unique(request_hashes(requests), return_inverse=True)
    count = int(kinds.max(initial=-1)) + 1
    taken = round(share * count)
    if min(taken, count - taken) < LEAST_REQUESTS:
        raise UserError(
            f"there are {count} calibration requests that differ: {count - taken} to fit to and "
            f"{taken} to judge the fit on; at least {LEAST_REQUESTS} of each are needed: give more"
        )
    out = np.random.default_rng((seed, 3)).permutation(count)[:taken]
    judging = np.isin(kinds, out)
    return np.flatnonzero(~judging), np.flatnonzero(judging)


def judge_map(
    change: ScoreMap, scores: Array, requests: RequestBatch, kind: ScoreKind, *, resamples: int
) -> Judged:
    """Say what a function of scores does for how well they fit the clicks.

    Args:
        change: The function.
        scores: float32 ``[ΣN]``.
        requests: With clicks as labels, none of which it was fitted to.
        kind: What the scores mean, ``probability`` or ``logit``.
        resamples: Of the bootstrap over requests.
    """
    from rankers.quality import quality, quality_difference

    labels, offsets = requests.labels, requests.offsets
    if labels is None:
        raise AssertionError("the caller looked")
    changed = change(scores)
    pairs, tied = _tied_pairs(scores, changed, offsets, kind)
    return Judged(
        before=quality(scores, labels, offsets, kind),
        after=quality(changed, labels, offsets, kind),
        changes=quality_difference(
            scores,
            changed,
            labels,
            offsets,
            kind,
            names=("logloss", "calibration_error", "auc", "gauc"),
            resamples=resamples,
        ),
        pairs=pairs,
        tied=tied,
    )


def _tied_pairs(scores: Array, changed: Array, offsets: Array, kind: ScoreKind) -> tuple[int, int]:
    """Count pairs of one request that scores tell apart, by more than rounding, and those lost."""
    step = rounding(scores, offsets, kind)
    pairs = tied = 0
    for start, stop in itertools.pairwise(offsets):
        old, new = scores[start:stop].astype(np.float64), changed[start:stop]
        near = step[start:stop]
        told = np.abs(old[:, None] - old[None, :]) > np.maximum(near[:, None], near[None, :])
        pairs += int(told.sum()) // 2
        tied += int((told & (new[:, None] == new[None, :])).sum()) // 2
    return pairs, tied
