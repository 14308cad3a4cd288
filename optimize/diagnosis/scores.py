"""Whether the scores are scores: one a row, finite, not all the same, in the range they claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimize.diagnosis.finding import Finding
from rankers.errors import UserError

if TYPE_CHECKING:
    from rankers.ranker import Ranker

# Enough to see a fault, few enough to be quick; `run` scores all rows.
_ROWS = 8192


def examine_scores(ranker: Ranker) -> list[Finding]:
    """Score the first evaluation requests.

    Returns:
        What is wrong. ``scoring-fails`` and ``wrong-score-count`` leave nothing more to examine.
    """
    batch = next(ranker.evaluation.chunks(_ROWS))
    try:
        scores = ranker.score(batch.flat())
    except UserError as error:
        return [Finding("scoring-fails", str(error), "mend forward or the evaluation requests")]
    if len(scores) != batch.rows:
        return [
            Finding(
                "wrong-score-count",
                f"{len(scores)} scores for {batch.rows} rows",
                "return one score a row, [rows] or [rows, 1]; pick or combine several outputs",
            )
        ]
    finite = np.isfinite(scores)
    findings = []
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        request = int(np.searchsorted(batch.offsets, row, side="right")) - 1
        findings.append(
            Finding(
                "not-finite-scores",
                f"{int((~finite).sum())} of {len(scores)} scores are not finite; the first is "
                f"{scores[row]}, candidate {row - int(batch.offsets[request])} of request "
                f"{request}",
                "look there for log or division of 0, a mask that hides everything, overflow",
            )
        )
    usable = scores[finite]
    if len(usable) > 1 and usable.min() == usable.max():
        findings.append(
            Finding(
                "constant-scores",
                f"all {len(usable)} rows score {usable[0]:.6g}",
                "look for a saturated sigmoid, dead ReLUs, untrained or unloaded weights",
            )
        )
    if ranker.signature.score == "probability" and len(usable):
        outside = int(((usable < 0) | (usable > 1)).sum())
        if outside:
            findings.append(
                Finding(
                    "not-a-probability",
                    f"{outside} of {len(usable)} scores are outside [0, 1]: they run from "
                    f"{usable.min():.4g} to {usable.max():.4g}",
                    'declare them: Signature(features, score="logit") or "relevance"; or end '
                    "forward with a sigmoid",
                )
            )
    return findings
