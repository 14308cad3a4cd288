"""Gates: an artifact goes further only if it scores, and ranks, as the original did.

The parity gate compares scores; the quality gate compares how well they rank. All look at the same
requests as the original was scored on when it was captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimize.capture import load_evidence, score_batch
from optimize.gates.parity import parity_verdict
from optimize.gates.quality import quality_verdict
from optimize.runtimes import open_predictor

if TYPE_CHECKING:
    from optimize.artifact import Artifact, Verdict
    from optimize.recipe import ParityLimits, QualityLimits

__all__ = ["judge", "parity_verdict", "quality_verdict"]


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
