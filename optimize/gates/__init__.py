"""Gates: an artifact goes further only if it scores, and ranks, as the original did.

The parity gate compares scores, the quality gate how well they rank, the ranking gate each
request's order, and the gate of slices looks for a loss that the mean hides. All look at the same
requests as the original was scored on when it was captured. docs/gates.md says what each catches.

Where an artifact states that it changes scores on purpose (`optimize.score_map`), parity compares
with what its function makes of the original's scores, and that is also what rounding is told by.
All others compare with the original as it was (decision 022).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from optimize.capture import load_evidence, score_batch
from optimize.devices import runtime_device
from optimize.gates.parity import parity_verdict
from optimize.gates.quality import quality_verdict
from optimize.gates.ranking import ranking_verdict
from optimize.gates.slices import slices_verdict
from optimize.runtimes import open_predictor
from optimize.score_map import score_map_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.artifact import Artifact
    from optimize.capture import Evidence
    from optimize.recipe import ParityLimits, QualityLimits, RankingLimits, SliceLimits
    from optimize.runtimes import Predictor
    from optimize.score_map import ScoreMap
    from optimize.verdicts import Verdict
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
    # Slices are cut by the original's features, also by those that the artifact no longer reads.
    original = captured.manifest.signature
    return judge_predictor(
        open_predictor(artifact, device=runtime_device(artifact.manifest, device)),
        load_evidence(captured),
        replace(original, score=artifact.manifest.signature.score),
        parity,
        quality,
        ranking=ranking,
        slices=slices,
        columns_of=artifact.manifest.columns_of,
        score_map=score_map_of(artifact.manifest.score_map),
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
    score_map: ScoreMap | None = None,
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
        score_map: What is done to scores on purpose; None if nothing is.
    """
    meant = evidence.scores if score_map is None else score_map(evidence.scores)
    kind = signature.score
    scores = score_batch(predictor, evidence.evaluation, columns_of)
    verdicts = [
        parity_verdict(predictor, scores, evidence, parity, columns_of, score_map=score_map)
    ]
    if not np.isfinite(scores).all():
        return tuple(verdicts)
    verdicts.append(quality_verdict(scores, evidence, kind, quality, meant=meant))
    if ranking is not None:
        probes = {n: predictor(columns_of(each)) for n, (each, _) in evidence.probes.items()}
        if all(np.isfinite(each).all() for each in probes.values()):
            verdicts.append(
                ranking_verdict(scores, probes, evidence, kind, ranking, score_map=score_map)
            )
    if slices is not None:
        verdicts.append(
            slices_verdict(
                scores, evidence, signature, slices, quality=quality, ranking=ranking, meant=meant
            )
        )
    return tuple(verdicts)
