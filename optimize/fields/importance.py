"""What each feature is worth, by permutation: what goes wrong if its values are another's.

Breiman, Random Forests, 2001; Fisher, Rudin and Dominici, arXiv:1801.01489. A user's feature
changes places with another request's, an item's with any other candidate's. Two features that say
the same each seem worth little: each stands in for the other. So what goes is tried together
(`optimize.fields.choosing`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.fields.reading import score_with
from rankers.intervals import RatioOverDraws, percentile_interval, request_draws
from rankers.metrics import LESS_IS_BETTER, metrics_over_draws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.flat_graph import FlatGraph
    from rankers.features import Feature, ScoreKind, Side
    from rankers.intervals import Interval
    from rankers.requests import Array, RequestBatch

RESAMPLES = 300


@dataclass(frozen=True)
class Importance:
    """What one feature is worth.

    Attributes:
        feature: Its name.
        side: Whose it is.
        change: The mean change of a score, as a share of the scores' spread.
        losses: Of each metric how much worse it is, where there are labels.
    """

    feature: str
    side: Side
    change: Interval
    losses: dict[str, Interval]

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts features, the one that is worth least first."""
        lost = self.losses["auc"].estimate if "auc" in self.losses else 0.0
        return (lost, self.change.estimate)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "name": self.feature,
            "side": self.side,
            "score_change": self.change.to_json(),
            "losses": {name: each.to_json() for name, each in self.losses.items()},
        }


def importances(
    graph: FlatGraph,
    features: Sequence[Feature],
    requests: RequestBatch,
    reference: Array,
    kind: ScoreKind,
    *,
    repeats: int,
    seed: int,
) -> list[Importance]:
    """Permute each feature, and say what becomes of scores and metrics.

    Args:
        graph: Flat.
        features: Of its columns.
        requests: Calibration requests, with labels or without.
        reference: What the program scores on them, ``[ΣN]``.
        kind: What scores mean.
        repeats: How many permutations of each are averaged.
        seed: Of the permutations.
    """
    names = metrics_of(kind)
    found = []
    for place, feature in enumerate(features):
        random = np.random.default_rng((seed, place))
        scores = [score_with(graph, _permuted(requests, feature, random)) for _ in range(repeats)]
        found.append(
            Importance(
                feature.name,
                feature.side,
                score_change(reference, scores, requests.offsets),
                losses(reference, scores, requests, kind, names),
            )
        )
    return found


def metrics_of(kind: ScoreKind) -> tuple[str, ...]:
    """Return the metrics by which features are told apart."""
    return ("auc", "gauc", "ndcg_at_10" if kind == "relevance" else "logloss")


def score_change(reference: Array, scores: Sequence[Array], offsets: Array) -> Interval:
    """Return the mean |Δscore| as a share of the spread, with its interval over requests."""
    spread = max(float(np.std(reference)), 1e-12)
    changes = np.mean([np.abs(each.astype(np.float64) - reference) for each in scores], 0) / spread
    counts = np.diff(offsets).astype(np.float64)
    sums = np.add.reduceat(changes, offsets[:-1])
    return _interval(RatioOverDraws(sums, counts), offsets)


def losses(
    reference: Array,
    scores: Sequence[Array],
    requests: RequestBatch,
    kind: ScoreKind,
    names: Sequence[str],
) -> dict[str, Interval]:
    """Return how much worse each metric is on average over ``scores``; what is undefined left out.

    Intervals are of a paired bootstrap over requests.
    """
    if requests.labels is None:
        return {}
    labels, offsets = requests.labels, requests.offsets
    old = metrics_over_draws(reference, labels, offsets, kind, names)
    new = [metrics_over_draws(each, labels, offsets, kind, names) for each in scores]
    found = {}
    for name in old:
        sign = 1 if name in LESS_IS_BETTER else -1

        def loss(draws: Array, *, name: str = name, sign: int = sign) -> Array:
            worse = np.mean([each[name](draws) for each in new], 0) - old[name](draws)
            lost: Array = sign * worse + 0.0  # no loss is 0, not -0
            return lost

        interval = _interval(loss, offsets)
        if not np.isnan(interval.estimate):
            found[name] = interval
    return found


def _permuted(
    requests: RequestBatch, feature: Feature, random: np.random.Generator
) -> RequestBatch:
    name = feature.name
    if feature.side == "user":
        mixed = random.permutation(len(requests))
        return replace(requests, user=requests.user | {name: requests.user[name][mixed]})
    mixed = random.permutation(requests.rows)
    return replace(requests, items=requests.items | {name: requests.items[name][mixed]})


def _interval(measure: Any, offsets: Array) -> Interval:
    requests = len(offsets) - 1
    drawn = [
        measure(draws) for draws in request_draws(requests, RESAMPLES, 0, rows=int(offsets[-1]))
    ]
    estimate = float(measure(np.ones((1, requests)))[0])
    return percentile_interval(estimate, np.concatenate(drawn))
