"""A ranker judged on an evaluation and on slices of it, alone or beside another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError
from rankers.metrics import metric_names, probability_of
from rankers.quality import quality, quality_difference, quality_intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.evaluation.slices import Slice
    from rankers.features import ScoreKind
    from rankers.intervals import Interval
    from rankers.ranker import Ranker
    from rankers.requests import Array, RequestBatch

_SCORING_ROWS = 4096
OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class SliceQuality:
    """What a ranker is worth on one slice.

    Attributes:
        name: Of the slice; ``overall`` for everything.
        about: What is in it.
        requests: How many requests have a candidate in it.
        rows: How many candidates it holds.
        positives: How many of them have a label above 0.
        metrics: By name; None where the metric is undefined on the slice.
        intervals: The 95 % interval of each metric that has one.
        against: The other ranker's metrics; empty where there is none.
        differences: This ranker's metric less the other's with the interval of a paired bootstrap
            over requests; empty where there is no other.
    """

    name: str
    about: str
    requests: int
    rows: int
    positives: int
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    against: dict[str, float | None]
    differences: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Return the slice's quality as JSON-ready data; JSON has no infinity, so None is one."""
        data: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("name", "about", "requests", "rows", "positives", "metrics", "against")
        }
        for name in ("intervals", "differences"):
            data[name] = {
                metric: {key: x if np.isfinite(x) else None for key, x in each.to_json().items()}
                for metric, each in getattr(self, name).items()
            }
        return data


@dataclass(frozen=True, slots=True)
class Scored:
    """An evaluation with the scores of one ranker, or of two.

    Attributes:
        requests: With labels.
        kind: What the scores mean, of both rankers.
        scores: ``[ΣN]``.
        against: The other's, ``[ΣN]``; None where there is no other.
    """

    requests: RequestBatch
    kind: ScoreKind
    scores: Array
    against: Array | None = None

    def only(self, rows: Array) -> Scored | None:
        """Keep the candidates marked by ``rows``, bool ``[ΣN]``, and requests that have any.

        Returns:
            None if nothing is left. The requests have no features any more.
        """
        offsets, labels = self.requests.offsets, self.requests.labels
        assert labels is not None  # noqa: S101 - an evaluation has labels
        counts = np.add.reduceat(rows.astype(np.int64), offsets[:-1])
        kept = np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64)
        if len(kept) == 1:
            return None
        return Scored(
            type(self.requests)({}, {}, kept, labels[rows]),
            self.kind,
            self.scores[rows],
            None if self.against is None else self.against[rows],
        )


def score_evaluation(
    ranker: Ranker, requests: RequestBatch, against: Ranker | None = None
) -> Scored:
    """Score an evaluation with a ranker, and with another to compare it with.

    Scores of different kinds are compared as probabilities if both are, else by their order alone.

    Raises:
        UserError: The requests do not fit a ranker's features, or have no labels.
    """
    kind = ranker.signature.score
    scores = _scores(ranker, requests)
    if against is None:
        return Scored(requests, kind, scores)
    other, others = against.signature.score, _scores(against, requests)
    if other != kind:
        if "relevance" in {kind, other}:
            return Scored(requests, "relevance", scores, others)
        scores, others = probability_of(scores, kind), probability_of(others, other)
        kind = "probability"
    return Scored(requests, kind, scores, others)


def judge_slice(
    scored: Scored, part: Slice | None, cutoffs: Sequence[int], *, resamples: int, seed: int = 0
) -> SliceQuality:
    """Judge scores on a slice, or on everything where ``part`` is None.

    Args:
        scored: Requests and scores.
        part: The slice.
        cutoffs: Each K of NDCG@K, MRR@K and recall@K.
        resamples: How many times requests are drawn anew.
        seed: Of those draws: both rankers are judged on the same.
    """
    name, about = (OVERALL, "everything") if part is None else (part.name, part.about)
    names = metric_names(cutoffs)
    found = scored if part is None else scored.only(part.rows)
    if found is None:
        empty: dict[str, float | None] = dict.fromkeys(names)
        return SliceQuality(name, about, 0, 0, 0, empty, {}, {}, {})
    requests = found.requests
    labels, offsets = requests.labels, requests.offsets
    assert labels is not None  # noqa: S101 - an evaluation has labels
    drawn = {"resamples": resamples, "seed": seed}

    def metrics(scores: Array) -> dict[str, float | None]:
        judged = quality(scores, labels, offsets, found.kind, more=names)
        return {each: judged.value(each) for each in names}

    other = found.against
    return SliceQuality(
        name,
        about,
        requests=len(requests),
        rows=requests.rows,
        positives=int((labels > 0).sum()),
        metrics=metrics(found.scores),
        intervals=quality_intervals(found.scores, labels, offsets, found.kind, names, **drawn),
        against={} if other is None else metrics(other),
        differences={}
        if other is None
        else quality_difference(
            other, found.scores, labels, offsets, found.kind, names=names, same_bins=False, **drawn
        ),
    )


def _scores(ranker: Ranker, requests: RequestBatch) -> Array:
    try:
        requests.check(ranker.signature)
    except UserError as error:
        raise UserError(f"these requests are not for ranker {ranker.name!r}: {error}") from error
    if requests.labels is None:
        raise UserError("the requests have no labels to judge a ranker on")
    return np.concatenate([ranker.score(each.flat()) for each in requests.chunks(_SCORING_ROWS)])
