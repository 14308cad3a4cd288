"""The gate of slices: a loss that the mean over all requests hides.

What a stage does to rare items, cold users or long histories is a few percent of the requests, and
of the mean. Each slice is judged on its own, by intervals so wide that all of them together claim a
loss that is not there as seldom as one alone would (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.gates.holding import most_needed, needs_text
from optimize.gates.quality import hold_metrics
from optimize.gates.ranking import compared, hold_agreement
from optimize.verdicts import Verdict
from rankers.errors import UserError
from rankers.evaluation import Scored, cut_slice, gate_slices
from rankers.rounding import without_rounding
from rankers.stability import kendall, mean_and_worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.capture import Evidence
    from optimize.gates.holding import Held
    from optimize.recipe import QualityLimits, RankingLimits, SliceLimits
    from rankers.evaluation import Slice
    from rankers.features import Signature
    from rankers.requests import Array
    from rankers.stability import Scores

_ERROR = 0.05  # of all slices' intervals together
_IN_EACH_TAIL = 10  # resamples beyond the end of an interval, for the end to be steady


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A slice and the scores on it."""

    cut: Slice
    scored: Scored

    @property
    def name(self) -> str:
        return self.cut.name

    @property
    def requests(self) -> int:
        return len(self.scored.requests)

    @property
    def moved(self) -> bool:
        """Whether any score on it moved by more than rounding."""
        against = self.scored.against
        return against is not None and not np.array_equal(self.scored.scores, against)


@dataclass(frozen=True, slots=True)
class _Judge:
    """What is the same for all slices."""

    metrics: dict[str, float]  # the limit of each
    kendall: float | None  # its limit, if it is held
    order: tuple[Scores, Scores]  # of all candidates: the original's and the artifact's
    offsets: Array
    resamples: int
    confidence: float

    def __call__(self, part: _Part) -> list[Held]:
        """Hold a slice's metrics, and how its candidates stand to all of their requests."""
        drawn: dict[str, Any] = {"resamples": self.resamples, "confidence": self.confidence}
        held = hold_metrics(part.scored, self.metrics, of=part.name, **drawn)
        if self.kendall is None:
            return held
        values = kendall(*self.order, self.offsets, of=part.cut.rows)
        defined = values[~np.isnan(values)]
        if not len(defined):
            return held
        mean, _ = mean_and_worst(defined, **drawn)
        name = f"kendall of {part.name}"
        return [*held, hold_agreement(name, mean, self.kendall, requests=len(defined))]


def slices_verdict(
    scores: Array,
    evidence: Evidence,
    signature: Signature,
    limits: SliceLimits,
    *,
    quality: QualityLimits,
    ranking: RankingLimits | None = None,
    meant: Array | None = None,
) -> Verdict:
    """Judge every slice of the evaluation requests.

    Args:
        scores: What the artifact gave for the evaluation requests, ``[ΣN]``, finite.
        evidence: What the original gave, with labels.
        signature: The features that slices are cut by.
        limits: Which slices, and how their limits follow from the whole's.
        quality: Limits of the whole.
        ranking: Of the whole, if its order is held.
        meant: As in `optimize.gates.quality.quality_verdict`.

    Raises:
        UserError: A slice that the limits name cannot be cut.
    """
    requests, kind = evidence.evaluation, signature.score
    if requests.labels is None:
        raise UserError("the evaluation requests have no labels to judge slices on")
    meant = evidence.scores if meant is None else meant
    moved = without_rounding(meant, scores, requests.offsets, kind)
    whole = Scored(requests, kind, moved, evidence.scores)
    parts = _parts(whole, evidence, signature, limits)
    few = [each for each in parts if each.moved and each.requests < limits.least_requests]
    judged = [each for each in parts if each not in few]
    confidence = 1 - _ERROR / max(1, sum(each.moved for each in judged))
    judge = _Judge(
        metrics={name: limit * limits.factor for name, limit in quality.by_metric.items()},
        kendall=None
        if ranking is None or ranking.kendall is None
        else ranking.kendall * limits.factor,
        order=compared(evidence.scores, scores, requests.offsets, kind, meant=meant),
        offsets=requests.offsets,
        resamples=max(quality.resamples, math.ceil(2 * _IN_EACH_TAIL / (1 - confidence))),
        confidence=confidence,
    )
    held = {each.name: judge(each) for each in judged}
    numbers: dict[str, Any] = {
        "factor": limits.factor,
        "confidence": confidence,
        "resamples": judge.resamples,
        "slices": {each.name: _described(each, held.get(each.name)) for each in parts},
    }
    return _settle(held, few, numbers, limits)


def _parts(
    whole: Scored, evidence: Evidence, signature: Signature, limits: SliceLimits
) -> list[_Part]:
    """Cut the slices; what is empty or everything is none."""
    parts: dict[str, _Part] = {}
    for name in (*(gate_slices(signature) if limits.usual else ()), *limits.also):
        cut = cut_slice(name, whole.requests, signature, evidence.seen)
        scored = None if cut.rows.all() else whole.only(cut.rows)
        if scored is not None:
            parts.setdefault(cut.name, _Part(cut, scored))
    return list(parts.values())


def _described(part: _Part, held: Sequence[Held] | None) -> dict[str, Any]:
    """Return a slice's numbers as JSON-ready data; ``judged`` is false where it was too small."""
    return {
        "about": part.cut.about,
        "requests": part.requests,
        "rows": part.scored.requests.rows,
        "judged": held is not None,
        **{each.name.partition(" of ")[0]: each.to_json() for each in held or ()},
    }


def _settle(
    held: dict[str, list[Held]],
    few: Sequence[_Part],
    numbers: dict[str, Any],
    limits: SliceLimits,
) -> Verdict:
    """Make the verdict: what failed is named with its slice, and so is what was not judged."""
    everything = [each for one in held.values() for each in one]
    left_out = ", ".join(f"{each.name} ({each.requests} requests)" for each in few)
    note = f"; too few to judge: {left_out}" if few else ""
    failed = [text for one in held.values() if (text := _failed_text(one))]
    if failed:
        return Verdict("slices", False, "; ".join(failed) + note, numbers)
    unsure = [each for each in everything if each.outcome == "cannot tell"]
    if unsure:
        slices = dict.fromkeys(each.name.partition(" of ")[2] for each in unsure)
        reason = f"{needs_text(most_needed(unsure))} in {', '.join(slices)}{note}"
        passed = limits.cannot_tell == "pass"
        return Verdict("slices", passed, reason, numbers, cannot_tell=True)
    passing = f"no loss on {', '.join(held)}" if held else "no slice to judge"
    return Verdict("slices", True, passing + note, numbers)


def _failed_text(held: Sequence[Held]) -> str:
    """Return what failed on a slice: the worst in full, the others by name; empty if nothing."""
    failed = [each for each in held if each.outcome == "failed"]
    if not failed:
        return ""
    worst = max(failed, key=lambda each: abs(each.change.estimate) / max(each.limit, 1e-12))
    others = [each.name.partition(" of ")[0] for each in failed if each is not worst]
    return worst.text + (f" (so are {', '.join(others)})" if others else "")
