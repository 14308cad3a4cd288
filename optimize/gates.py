"""Gates: an artifact goes further only if it scores, and ranks, as the original did.

The parity gate compares scores; the quality gate compares how well they rank. Both look at the same
requests as the original was scored on when it was captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.artifact import Verdict
from optimize.capture import load_evidence, score_batch
from optimize.runtimes import open_predictor
from rankers.errors import UserError
from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.artifact import Artifact
    from optimize.capture import Evidence
    from optimize.recipe import ParityLimits, QualityLimits
    from optimize.runtimes import Predictor
    from rankers.features import ScoreKind
    from rankers.requests import Array, Columns

# Metrics for which more is better; of the others less is.
_MORE_IS_BETTER = {"auc", "gauc", "ndcg_at_10"}


def judge(
    artifact: Artifact, captured: Artifact, parity: ParityLimits, quality: QualityLimits
) -> tuple[Verdict, ...]:
    """Let every gate look at ``artifact``.

    Args:
        artifact: What a stage made.
        captured: The artifact of `optimize.capture.capture`, with its evidence.
        parity: Limits of the parity gate.
        quality: Limits of the quality gate; not looked at if scores are not even finite.

    Returns:
        One verdict for each gate.
    """
    evidence = load_evidence(captured)
    predictor = open_predictor(artifact)
    manifest = artifact.manifest
    scores = score_batch(predictor, evidence.evaluation, manifest.columns_of)
    verdict = parity_verdict(predictor, scores, evidence, parity, manifest.columns_of)
    if not np.isfinite(scores).all():
        return (verdict,)
    return (verdict, quality_verdict(scores, evidence, manifest.signature.score, quality))


def parity_verdict(
    predictor: Predictor,
    scores: Array,
    evidence: Evidence,
    limits: ParityLimits,
    columns_of: Callable[[RankingRequest], Columns] = RankingRequest.flat,
) -> Verdict:
    """Compare scores one by one: on the evaluation requests, and on a probe of each size.

    Args:
        predictor: The opened artifact.
        scores: What it gave for the evaluation requests, ``[ΣN]``.
        evidence: What the original gave.
        limits: The largest differences allowed.
        columns_of: Makes a request the columns that the predictor takes.
    """
    differences = {"evaluation": np.abs(scores - evidence.scores)}
    for count, (request, expected) in evidence.probes.items():
        differences[f"N={count}"] = np.abs(predictor(columns_of(request)) - expected)
    worst_at = max(differences, key=lambda name: _worst(differences[name]))
    max_abs = _worst(differences[worst_at])
    mean_abs = max(float(np.mean(each)) for each in differences.values())
    numbers: dict[str, Any] = {
        "max_abs": _json_number(max_abs),
        "mean_abs": _json_number(mean_abs),
        "max_abs_limit": limits.max_abs,
        "mean_abs_limit": limits.mean_abs,
        "max_abs_at": {name: _json_number(_worst(each)) for name, each in differences.items()},
    }
    if not np.isfinite(max_abs):
        return Verdict("parity", False, f"scores at {worst_at} are not finite", numbers)
    if max_abs > limits.max_abs:
        reason = f"max |Δscore| {max_abs:.2g} at {worst_at} exceeds {limits.max_abs:.2g}"
        return Verdict("parity", False, reason, numbers)
    if mean_abs > limits.mean_abs:
        reason = f"mean |Δscore| {mean_abs:.2g} exceeds {limits.mean_abs:.2g}"
        return Verdict("parity", False, reason, numbers)
    return Verdict("parity", True, f"max |Δscore| {max_abs:.2g}, mean {mean_abs:.2g}", numbers)


def quality_verdict(
    scores: Array, evidence: Evidence, kind: ScoreKind, limits: QualityLimits
) -> Verdict:
    """Compare ranking metrics on the same requests, each at the bad end of its 95 % interval.

    Args:
        scores: What the artifact gave for the evaluation requests, ``[ΣN]``, finite.
        evidence: What the original gave, and the labels.
        kind: What a score means; relevance has no logloss or calibration.
        limits: The largest loss of each metric.
    """
    from rankers.quality import quality, quality_difference

    labels, offsets = evidence.evaluation.labels, evidence.evaluation.offsets
    if labels is None:
        raise UserError("the evaluation requests have no labels to judge quality on")
    before = quality(evidence.scores, labels, offsets, kind)
    after = quality(scores, labels, offsets, kind)
    differences = quality_difference(
        evidence.scores, scores, labels, offsets, kind, resamples=limits.resamples
    )
    failures = []
    numbers: dict[str, Any] = {"resamples": limits.resamples}
    for name, each in differences.items():
        limit = getattr(limits, name)
        loss = -each.low if name in _MORE_IS_BETTER else each.high
        numbers[name] = {
            "reference": getattr(before, name),
            "value": getattr(after, name),
            "delta": each.estimate,
            "low": _json_number(each.low),
            "high": _json_number(each.high),
            "limit": limit,
        }
        if loss > limit:
            failures.append(
                f"Δ{name} {each.estimate:+.2g} [{each.low:+.2g}, {each.high:+.2g}] may be worse "
                f"than the limit {limit:.2g}"
            )
    if failures:
        return Verdict("quality", False, "; ".join(failures), numbers)
    auc = differences.get("auc")
    if auc is None:
        return Verdict("quality", True, "within every limit; no AUC: labels are all alike", numbers)
    reason = f"ΔAUC {auc.estimate:+.2g} [{auc.low:+.2g}, {auc.high:+.2g}]"
    return Verdict("quality", True, reason, numbers)


def _worst(differences: Array) -> float:
    """The largest difference; infinite if one is not a number, which a plain maximum may hide."""
    largest = float(np.max(differences))
    return largest if np.isfinite(largest) else float("inf")


def _json_number(value: float) -> float | None:
    """JSON has no infinity."""
    return value if np.isfinite(value) else None
