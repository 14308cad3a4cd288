"""The ranking gate: each request's order, which needs no labels.

A metric over clicks hardly moves where two candidates that nobody clicked change places, and says
nothing of requests without clicks. The order of every request says whether the artifact ranks as
the original does, for the probe requests too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.gates.holding import hold, json_number, settle
from rankers.intervals import Interval
from rankers.rounding import rounding, without_rounding
from rankers.stability import Scores, kendall, mean_and_worst, top_k_overlap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optimize.capture import Evidence
    from optimize.gates.holding import Held
    from optimize.recipe import RankingLimits
    from optimize.score_map import ScoreMap
    from optimize.verdicts import Verdict
    from rankers.features import ScoreKind
    from rankers.requests import Array


def ranking_verdict(
    scores: Array,
    probes: Mapping[int, Array],
    evidence: Evidence,
    kind: ScoreKind,
    limits: RankingLimits,
    *,
    score_map: ScoreMap | None = None,
) -> Verdict:
    """Compare the order of each request's candidates.

    Args:
        scores: What the artifact gave for the evaluation requests, ``[ΣN]``, finite.
        probes: What it gave for the probe of each number of candidates, finite.
        evidence: What the original gave.
        kind: What a score means: what rounding may do to it.
        limits: The largest losses. Where none is held the gate states the numbers, and passes.
        score_map: What is done to scores on purpose; None if nothing is.
    """
    old = np.concatenate([evidence.scores, *(each for _, each in evidence.probes.values())])
    new = np.concatenate([scores, *(probes[count] for count in evidence.probes)])
    offsets = np.concatenate([[0], np.cumsum([*evidence.evaluation.candidates, *evidence.probes])])
    meant = old if score_map is None else score_map(old)
    reference, ranked = compared(old, new, offsets, kind, meant=meant)
    by_request = {
        "overlap": top_k_overlap(reference, ranked, offsets, limits.top_k),
        "kendall": kendall(reference, ranked, offsets),
    }
    evaluated = len(evidence.evaluation)
    numbers: dict[str, Any] = {
        "top_k": limits.top_k,
        "resamples": limits.resamples,
        "probes": {
            f"N={count}": {name: json_number(x[evaluated + n]) for name, x in by_request.items()}
            for n, count in enumerate(evidence.probes)
        },
    }
    held: list[Held] = []
    said = []
    for name, values in by_request.items():
        defined = values[~np.isnan(values)]
        numbers[f"{name}_requests"] = len(defined)
        if not len(defined):
            continue
        found = mean_and_worst(defined, resamples=limits.resamples)
        for key, interval in zip((name, f"{name}_worst"), found, strict=True):
            limit = limits.by_name[key]
            numbers[key] = {"value": interval.estimate, **interval.to_json(), "limit": limit}
            if limit is not None:
                held.append(hold_agreement(key, interval, limit, requests=len(defined)))
                numbers[key] |= held[-1].to_json()
        label = f"top-{limits.top_k} overlap" if name == "overlap" else "Kendall τ"
        said.append(f"{label} {found[0].estimate:.4g}, worst tenth {found[1].estimate:.4g}")
    passing = "; ".join(said) or "no request has two candidates that the original tells apart"
    return settle("ranking", held, numbers, cannot_tell=limits.cannot_tell, passing=passing)


def compared(
    reference: Array, scores: Array, offsets: Array, kind: ScoreKind, *, meant: Array
) -> tuple[Scores, Scores]:
    """Return both with what rounding may do to each, what it did put back.

    Args:
        reference: The original's, ``[ΣN]``.
        scores: The artifact's.
        offsets: Of requests.
        kind: What they mean.
        meant: What the artifact's are to be: the original's, or what a stage makes of them.
    """
    kept = without_rounding(meant, scores, offsets, kind)
    return (
        Scores(reference, rounding(reference, offsets, kind)),
        Scores(kept, rounding(kept, offsets, kind)),
    )


def hold_agreement(name: str, agreement: Interval, limit: float, *, requests: int) -> Held:
    """Hold an overlap or a τ, of which 1 is best, against the largest loss allowed."""
    change = Interval(agreement.estimate - 1, agreement.low - 1, agreement.high - 1)
    return hold(name, change, limit, requests=requests, less_is_better=False)
