"""How far scores of the same requests are apart: in themselves, in order, and in quality."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.gates.holding import json_number
from optimize.gates.ranking import compared
from rankers.metrics import LESS_IS_BETTER
from rankers.quality import quality_difference
from rankers.rounding import without_rounding
from rankers.stability import kendall, top_k_overlap, worst_tenth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import ScoreKind
    from rankers.intervals import Interval
    from rankers.requests import Array, RequestBatch

TOP_K = 10
SHOWN = ("auc", "gauc", "ndcg_at_10", "logloss")
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Loss:
    """What other scores cost.

    Attributes:
        score_change: The mean change of a score, as a share of the scores' standard deviation.
        largest_change: The largest change of a score, in its own unit.
        mean_change: The mean change of a score, in its own unit.
        kendall: Mean over requests of Kendall's τ with the order before; None if none has an order.
        kendall_worst: The same over the worst tenth of the requests.
        overlap: Mean over requests of the share of the first 10 that are still there; None if no
            request has more candidates.
        overlap_worst: The same over the worst tenth of the requests.
        quality: By metric: the new value less the old, with a paired bootstrap interval over
            requests. Empty without labels.
    """

    score_change: float
    largest_change: float
    mean_change: float
    kendall: float | None = None
    kendall_worst: float | None = None
    overlap: float | None = None
    overlap_worst: float | None = None
    quality: Mapping[str, Interval] = field(default_factory=dict)

    def worst_of(self, metric: str) -> float | None:
        """Return a metric's loss at the bad end of its interval; None if it has none."""
        change = self.quality.get(metric)
        if change is None:
            return None
        return change.high if metric in LESS_IS_BETTER else -change.low

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data; JSON has no infinity, so None is one."""
        data: dict[str, Any] = {
            name: json_number(value) if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if name != "quality"
        }
        data["quality"] = {
            name: {key: json_number(value) for key, value in change.to_json().items()}
            for name, change in self.quality.items()
        }
        return data


@dataclass(frozen=True)
class Reference:
    """The scores that others are compared with.

    Attributes:
        requests: With labels or without.
        scores: float32 ``[ΣN]``.
        kind: What a score means.
        metrics: Which are compared where there are labels.
    """

    requests: RequestBatch
    scores: Array
    kind: ScoreKind
    metrics: Sequence[str] = SHOWN

    def loss_of(self, scores: Array, *, alone: Sequence[str] | None = None) -> Loss:
        """Compare other scores of the same requests.

        Args:
            scores: float32 ``[ΣN]``.
            alone: The only metrics that are asked for, and not the order either; by default all is
                compared.
        """
        if not np.isfinite(scores).all():
            return Loss(np.inf, np.inf, np.inf)
        offsets = self.requests.offsets
        changes = np.abs(scores.astype(np.float64) - self.scores)
        spread = max(float(self.scores.std(dtype=np.float64)), float(np.finfo(np.float32).tiny))
        agreement = self._agreement(scores) if alone is None else {}
        names = self.metrics if alone is None else alone
        found: Mapping[str, Interval] = {}
        if self.requests.labels is not None and names:
            found = quality_difference(
                self.scores,
                without_rounding(self.scores, scores, offsets, self.kind),
                self.requests.labels,
                offsets,
                self.kind,
                names=names,
                resamples=_RESAMPLES,
            )
        return Loss(
            score_change=float(changes.mean()) / spread,
            largest_change=float(changes.max()),
            mean_change=float(changes.mean()),
            quality=found,
            **agreement,
        )

    def _agreement(self, scores: Array) -> dict[str, float]:
        offsets = self.requests.offsets
        old, new = compared(self.scores, scores, offsets, self.kind, meant=self.scores)
        found = {}
        for name, values in (
            ("kendall", kendall(old, new, offsets)),
            ("overlap", top_k_overlap(old, new, offsets, TOP_K)),
        ):
            defined = values[~np.isnan(values)]
            if len(defined):
                found[name] = float(defined.mean())
                found[f"{name}_worst"] = worst_tenth(defined)
        return found
