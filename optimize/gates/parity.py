"""The parity gate: scores, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.gates.holding import json_number
from optimize.verdicts import Verdict
from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.capture import Evidence
    from optimize.recipe import ParityLimits
    from optimize.runtimes import Predictor
    from optimize.score_map import ScoreMap
    from rankers.requests import Array, Columns


def parity_verdict(
    predictor: Predictor,
    scores: Array,
    evidence: Evidence,
    limits: ParityLimits,
    columns_of: Callable[[RankingRequest], Columns] = RankingRequest.flat,
    *,
    score_map: ScoreMap | None = None,
) -> Verdict:
    """Compare scores one by one: on the evaluation requests, and on a probe of each size.

    Args:
        predictor: The opened artifact.
        scores: What it gave for the evaluation requests, ``[ΣN]``.
        evidence: What the original gave.
        limits: The largest differences allowed.
        columns_of: Makes a request the columns that the predictor takes.
        score_map: What is done to scores on purpose; None if nothing is. A score is then as far off
            as it is from what becomes of the original's, or as what it was made of is from the
            original's, whichever is less: where the function is steep it makes rounding larger,
            where it is flat so does its inverse.
    """
    differences = {"evaluation": _differences(scores, evidence.scores, score_map)}
    for count, (request, expected) in evidence.probes.items():
        differences[f"N={count}"] = _differences(
            predictor(columns_of(request)), expected, score_map
        )
    worst_at = max(differences, key=lambda name: _worst(differences[name]))
    max_abs = _worst(differences[worst_at])
    mean_abs = max(float(np.mean(each)) for each in differences.values())
    numbers: dict[str, Any] = {
        "max_abs": json_number(max_abs),
        "mean_abs": json_number(mean_abs),
        "max_abs_limit": limits.max_abs,
        "mean_abs_limit": limits.mean_abs,
        "max_abs_at": {name: json_number(_worst(each)) for name, each in differences.items()},
    }
    if score_map is not None:
        numbers["score_map"] = score_map.to_json()
    if not np.isfinite(max_abs):
        return Verdict("parity", False, f"scores at {worst_at} are not finite", numbers)
    if max_abs > limits.max_abs:
        reason = f"max |Δscore| {max_abs:.2g} at {worst_at} exceeds {limits.max_abs:.2g}"
        return Verdict("parity", False, reason, numbers)
    if mean_abs > limits.mean_abs:
        reason = f"mean |Δscore| {mean_abs:.2g} exceeds {limits.mean_abs:.2g}"
        return Verdict("parity", False, reason, numbers)
    reason = f"max |Δscore| {max_abs:.2g}, mean {mean_abs:.2g}"
    if score_map is not None:
        reason += ", to the original's scores recalibrated alike"
    return Verdict("parity", True, reason, numbers)


def _differences(scores: Array, original: Array, score_map: ScoreMap | None) -> Array:
    found: Array = np.abs(scores - original)
    if score_map is not None:
        served = np.abs(scores - score_map(original))
        found = np.minimum(served, np.abs(score_map.undo(scores) - original))
    return found


def _worst(differences: Array) -> float:
    """The largest difference; infinite if one is not a number, which a plain maximum may hide."""
    largest = float(np.max(differences))
    return largest if np.isfinite(largest) else float("inf")
