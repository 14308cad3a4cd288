"""Gates: an artifact goes further only if it scores, and ranks, as the original did.

The parity gate compares scores, the quality gate how well they rank, the ranking gate each
request's order, and the gate of slices looks for a loss that the mean hides. All look at the same
requests as the original was scored on when it was captured. docs/gates.md says what each catches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimize.capture import load_evidence, score_batch
from optimize.devices import runtime_device
from optimize.gates.parity import parity_verdict
from optimize.gates.quality import quality_verdict
from optimize.gates.ranking import ranking_verdict
from optimize.gates.slices import slices_verdict
from optimize.runtimes import open_predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.artifact import Artifact, Verdict
    from optimize.capture import Evidence
    from optimize.recipe import ParityLimits, QualityLimits, RankingLimits, SliceLimits
    from optimize.runtimes import Predictor
    from rankers.features import Signature
    from rankers.requests import Columns, RankingRequest, RequestBatch

__all__ = [
    "judge",
    "judge_predictor",
    "parity_verdict",
    "quality_verdict",
    "ranking_verdict",
    "slices_verdict",
]


def judge(
    artifact: Artifact,
    captured: Artifact,
    parity: ParityLimits,
    quality: QualityLimits,
    *,
    ranking: RankingLimits | None = None,
    slices: SliceLimits | None = None,
    device: str = "cpu",
) -> tuple[Verdict, ...]:
    """Let every gate look at ``artifact``.

    Args:
        artifact: What a stage made.
        captured: The artifact of `optimize.capture.capture`, with its evidence.
        parity: Limits of the parity gate.
        quality: Limits of the quality gate; no other gate is asked if scores are not even finite.
        ranking: Limits of the ranking gate; without them it is not asked.
        slices: Limits of the gate of slices; without them it is not asked.
        device: Where the artifact scores, if its format can.

    Returns:
        One verdict for each gate that was asked.
    """
    return judge_predictor(
        open_predictor(artifact, device=runtime_device(artifact.manifest, device)),
        load_evidence(captured),
        artifact.manifest.signature,
        parity,
        quality,
        ranking=ranking,
        slices=slices,
        columns_of=artifact.manifest.columns_of,
    )


def judge_predictor(
    predictor: Predictor,
    evidence: Evidence,
    signature: Signature,
    parity: ParityLimits,
    quality: QualityLimits,
    *,
    ranking: RankingLimits | None = None,
    slices: SliceLimits | None = None,
    columns_of: Callable[[RankingRequest | RequestBatch], Columns] = lambda each: each.flat(),
) -> tuple[Verdict, ...]:
    """Do as `judge` for anything that scores columns.

    Args:
        predictor: From columns to scores.
        evidence: What the original gave.
        signature: Its features, and what a score means.
        parity: As in `judge`, like the rest.
        quality: See there.
        ranking: See there.
        slices: See there.
        columns_of: Makes requests the columns that the predictor takes.
    """
    kind = signature.score
    scores = score_batch(predictor, evidence.evaluation, columns_of)
    verdicts = [parity_verdict(predictor, scores, evidence, parity, columns_of)]
    if not np.isfinite(scores).all():
        return tuple(verdicts)
    verdicts.append(quality_verdict(scores, evidence, kind, quality))
    if ranking is not None:
        probes = {n: predictor(columns_of(each)) for n, (each, _) in evidence.probes.items()}
        if all(np.isfinite(each).all() for each in probes.values()):
            verdicts.append(ranking_verdict(scores, probes, evidence, kind, ranking))
    if slices is not None:
        verdicts.append(
            slices_verdict(scores, evidence, signature, slices, quality=quality, ranking=ranking)
        )
    return tuple(verdicts)
