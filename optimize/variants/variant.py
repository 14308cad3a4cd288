"""A variant of a ranker, with what is on record of it, and how it stands among others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from optimize.variants.front import beaten_by
from rankers.metrics import LESS_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rankers.intervals import Interval

State = Literal["kept", "passed", "dropped", "failed", "not gated"]
ORIGINAL = "original"
Outcome = Literal["on the front", "beaten", "not measured", "out"]


@dataclass(frozen=True, slots=True)
class Variant:
    """What one run or artifact has on record.

    Attributes:
        name: Of its own among those that are compared.
        folder: Of its artifact; None if there is none.
        state: What became of it.
        reason: Why it was dropped, or failed; may be empty.
        model_bytes: Of its files; None if there are none.
        p50_ms: By load: the median response time that was recorded.
        void: By load: why that measurement cannot be believed.
        quality: By metric, its value less the original's, with the gates' interval.
        reference: By metric, the original's value.
    """

    name: str
    folder: Path | None
    state: State
    reason: str = ""
    model_bytes: int | None = None
    p50_ms: Mapping[str, float] = field(default_factory=dict)
    void: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, Interval] = field(default_factory=dict)
    reference: Mapping[str, float] = field(default_factory=dict)

    def loss(self, metric: str) -> float | None:
        """Return how much worse a metric is than the original's; None if it is not on record."""
        change = self.quality.get(metric)
        if change is None:
            return None
        return change.estimate if metric in LESS_IS_BETTER else -change.estimate

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "name": self.name,
            "folder": None if self.folder is None else str(self.folder),
            "state": self.state,
            "reason": self.reason,
            "model_bytes": self.model_bytes,
            "p50_ms": dict(self.p50_ms),
            "void": dict(self.void),
            "quality": {name: change.to_json() for name, change in self.quality.items()},
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """How a variant stands among others.

    Attributes:
        variant: The variant.
        outcome: ``out``: it did not pass its gates, so it is nobody's rival.
        beaten_by: The name of one on the front that is no larger, no slower and no worse.
        missing: What would have to be known to judge it.
    """

    variant: Variant
    outcome: Outcome
    beaten_by: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The outcome in words."""
        if self.outcome == "beaten":
            return f"beaten by {self.beaten_by}"
        if self.outcome == "not measured":
            return f"not judged: no {' and no '.join(self.missing)} on record"
        return "not a candidate" if self.outcome == "out" else self.outcome


def loads_of(variants: Sequence[Variant]) -> list[str]:
    """Return the loads under which p50s are on record, that of the most variants first."""
    counts: dict[str, int] = {}
    for each in variants:
        for load in each.p50_ms:
            counts[load] = counts.get(load, 0) + 1
    return sorted(counts, key=lambda x: -counts[x])


def standings(variants: Sequence[Variant], metric: str, load: str | None) -> list[Standing]:
    """Judge variants by size, p50 and a metric's loss.

    Args:
        variants: All of them.
        metric: Whose loss counts.
        load: Under which the p50 counts; None leaves it out, where none is on record.

    Returns:
        One for each, in order.
    """
    costs: dict[str, tuple[float, ...]] = {}
    missing: dict[str, tuple[str, ...]] = {}
    for each in variants:
        known = {"size": each.model_bytes, metric: each.loss(metric)}
        if load is not None:
            known["p50"] = each.p50_ms.get(load)
        missing[each.name] = tuple(name for name, value in known.items() if value is None)
        if not missing[each.name] and _is_candidate(each):
            costs[each.name] = tuple(value for value in known.values() if value is not None)
    beaten = beaten_by(costs)
    return [_standing(each, missing[each.name], beaten) for each in variants]


def _standing(
    variant: Variant, missing: tuple[str, ...], beaten: Mapping[str, str | None]
) -> Standing:
    if not _is_candidate(variant):
        return Standing(variant, "out")
    if missing:
        return Standing(variant, "not measured", missing=missing)
    by = beaten[variant.name]
    return Standing(variant, "on the front" if by is None else "beaten", by)


def _is_candidate(variant: Variant) -> bool:
    return variant.state not in {"failed", "not gated"}
