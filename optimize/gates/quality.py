"""The quality gate: how well scores rank, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.gates.holding import Held, hold, settle
from optimize.verdicts import Verdict
from rankers.errors import UserError
from rankers.evaluation import Scored
from rankers.intervals import Interval
from rankers.metrics import LESS_IS_BETTER
from rankers.rounding import without_rounding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optimize.capture import Evidence
    from optimize.recipe import QualityLimits
    from rankers.features import ScoreKind
    from rankers.requests import Array


def quality_verdict(
    scores: Array,
    evidence: Evidence,
    kind: ScoreKind,
    limits: QualityLimits,
    *,
    meant: Array | None = None,
) -> Verdict:
    """Compare ranking metrics on the same requests, each at the bad end of its 95 % interval.

    Scores that moved by rounding alone count as the original's (`rankers.rounding`): what is held
    against a limit is what the others do.

    Args:
        scores: What the artifact gave for the evaluation requests, ``[ΣN]``, finite.
        evidence: What the original gave, and the labels.
        kind: What a score means; relevance has no logloss or calibration.
        limits: The largest loss of each metric.
        meant: What the scores are to be but for rounding, ``[ΣN]``, where a stage changed them on
            purpose; by default the original's. Metrics are compared with the original's all the
            same.
    """
    from rankers.quality import quality

    meant = evidence.scores if meant is None else meant
    labels, offsets = evidence.evaluation.labels, evidence.evaluation.offsets
    if labels is None:
        raise UserError("the evaluation requests have no labels to judge quality on")
    if kind == "probability" and not (scores.min() >= 0 and scores.max() <= 1):
        reason = (
            f"scores from {scores.min():.6g} to {scores.max():.6g} are no probabilities, 0 to 1"
        )
        return Verdict("quality", False, reason, {})
    more = tuple(limits.also)
    before = quality(evidence.scores, labels, offsets, kind, more=more)
    after = quality(scores, labels, offsets, kind, more=more)
    moved = without_rounding(meant, scores, offsets, kind)
    scored = Scored(evidence.evaluation, kind, moved, evidence.scores)
    held = hold_metrics(scored, limits.by_metric, resamples=limits.resamples)
    numbers: dict[str, Any] = {
        "resamples": limits.resamples,
        "requests": len(evidence.evaluation),
        "moved_rows": int((moved != evidence.scores).sum()),
    }
    for each in held:
        values = {"reference": before.value(each.name), "value": after.value(each.name)}
        numbers[each.name] = values | each.to_json()
    return settle(
        "quality",
        held,
        numbers,
        cannot_tell=limits.cannot_tell,
        passing=_passing(held, moved_rows=numbers["moved_rows"]),
    )


def hold_metrics(
    scored: Scored,
    limits: Mapping[str, float],
    *,
    resamples: int,
    confidence: float = 0.95,
    of: str | None = None,
) -> list[Held]:
    """Hold each metric's change against its limit; undefined metrics are left out.

    Args:
        scored: The artifact's scores, with those that moved by rounding alone put back, against the
            original's.
        limits: By metric.
        resamples: Of the bootstrap, which is left out where no score has moved.
        confidence: Of the intervals.
        of: The slice that it is, if it is one, for the names.
    """
    from rankers.quality import quality, quality_difference

    labels, offsets, reference = scored.requests.labels, scored.requests.offsets, scored.against
    assert labels is not None  # noqa: S101 - the gate looked
    assert reference is not None  # noqa: S101 - as above
    names = tuple(limits)
    if np.array_equal(reference, scored.scores):
        found = quality(reference, labels, offsets, scored.kind, more=names)
        same = Interval(0.0, 0.0, 0.0)
        changes = {name: same for name in names if found.value(name) is not None}
    else:
        changes = quality_difference(
            reference,
            scored.scores,
            labels,
            offsets,
            scored.kind,
            names=names,
            resamples=resamples,
            confidence=confidence,
        )
    return [
        hold(
            name if of is None else f"{name} of {of}",
            change,
            limits[name],
            requests=len(offsets) - 1,
            less_is_better=name in LESS_IS_BETTER,
            telling=telling(name, labels, offsets),
        )
        for name, change in changes.items()
    ]


def telling(name: str, labels: Array, offsets: Array) -> int:
    """Return how many requests have a say in a metric."""
    if name in LESS_IS_BETTER:
        return len(offsets) - 1
    positives = np.add.reduceat(labels > 0, offsets[:-1], dtype=np.int64)
    negatives = np.diff(offsets) - positives
    if name == "auc":
        return int(min((positives > 0).sum(), (negatives > 0).sum()))
    told = (positives > 0) & (negatives > 0) if name == "gauc" else positives > 0
    return int(told.sum())


def _passing(held: list[Held], *, moved_rows: int) -> str:
    auc = next((each.change for each in held if each.name == "auc"), None)
    if not moved_rows:
        same = "no score moved by more than rounding"
        return f"ΔAUC 0: {same}" if auc else f"{same}; no AUC: labels are all alike"
    if auc is None:
        return "within every limit; no AUC: labels are all alike"
    return f"ΔAUC {auc.estimate:+.2g} [{auc.low:+.2g}, {auc.high:+.2g}]"
