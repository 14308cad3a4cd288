"""Results files compared: what changed between two that were measured at different times.

Nothing was interleaved, so what else changed on the machine meanwhile is in the difference, and no
statistics can take it out. What can be said is whether the difference is larger than what chance
makes of two such runs: the intervals of both percentiles, of dependent requests, do not overlap
where they are drawn so wide that all of them hold together at 99 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.compare import COMPARED_QUANTILES, CONFIDENCE
from bench.latencies import percentile_label
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.compare import Answer
    from bench.latencies import Percentile
    from bench.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Change:
    """A percentile of a target in two files.

    Attributes:
        target: Its name.
        old: The percentile then, with an interval that is good for the whole comparison.
        new: The same now.
    """

    target: str
    old: Percentile
    new: Percentile

    @property
    def verdict(self) -> Answer:
        """Whether it became faster or slower."""
        if self.new.low_us > self.old.high_us:
            return "slower"
        if self.new.high_us < self.old.low_us:
            return "faster"
        return "cannot tell"

    @property
    def ratio(self) -> tuple[float, float, float]:
        """New ÷ old, and the least and largest that it can be."""
        old, new = self.old, self.new
        return (
            new.value_us / old.value_us,
            new.low_us / old.high_us,
            new.high_us / max(old.low_us, 1e-3),
        )

    @property
    def text(self) -> str:
        """One line."""
        value, low, high = self.ratio
        return (
            f"{self.target}: {percentile_label(self.new.quantile)} {self.old.value_us / 1e3:.3g} → "
            f"{self.new.value_us / 1e3:.3g} ms, ratio {value:.3f} ({low:.3f}-{high:.3f}): "
            f"{self.verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the change as JSON-ready data."""
        return {
            "target": self.target,
            "old": self.old.to_json(),
            "new": self.new.to_json(),
            "ratio": self.ratio[0],
            "low": self.ratio[1],
            "high": self.ratio[2],
            "verdict": self.verdict,
        }


def changes(
    old: Sequence[Measurement], new: Sequence[Measurement], *, any_machine: bool = False
) -> tuple[Change, ...]:
    """Compare the percentiles of the targets that two files have in common.

    Args:
        old: Of the earlier file.
        new: Of the later one. If each has a single measurement their names may differ.
        any_machine: Compare what different machines measured.

    Returns:
        One for each target and each of `bench.compare.COMPARED_QUANTILES` that both have requests
        enough for.

    Raises:
        UserError: They have no target in common, or it was measured on another machine, or with
            another workload or load.
    """
    pairs = _pairs(old, new)
    # Each interval may miss so often that all of them, two for each percentile, hold together.
    doubt = (1 - CONFIDENCE) / (2 * len(pairs) * len(COMPARED_QUANTILES))
    found = []
    for before, after in pairs:
        _check_alike(before, after, any_machine=any_machine)
        for quantile in COMPARED_QUANTILES:
            ends = [each.percentile(quantile, confidence=1 - doubt) for each in (before, after)]
            if ends[0] is not None and ends[1] is not None:
                found.append(Change(after.name, ends[0], ends[1]))
    return tuple(found)


def _pairs(
    old: Sequence[Measurement], new: Sequence[Measurement]
) -> list[tuple[Measurement, Measurement]]:
    if len(old) == len(new) == 1:
        return [(old[0], new[0])]
    # A target may be there under several loads.
    pairs = [
        (before, after)
        for after in new
        for before in old
        if (before.name, before.load) == (after.name, after.load)
    ]
    if not pairs:
        names = [sorted({each.name for each in side}) for side in (old, new)]
        raise UserError(
            f"the files have no target under the same load in common: {names[0]}, {names[1]}"
        )
    return pairs


def _check_alike(old: Measurement, new: Measurement, *, any_machine: bool) -> None:
    if old.environment.machine != new.environment.machine and not any_machine:
        raise UserError(
            f"{new.name!r} was measured on different machines ({old.environment.machine}: "
            f"{old.environment.cpu}; {new.environment.machine}: {new.environment.cpu}): a "
            "difference would be theirs; measure on one, or ask for it with --any-machine"
        )
    for field in ("workload", "load"):
        if getattr(old, field) != getattr(new, field):
            raise UserError(
                f"{new.name!r} was measured with another {field} "
                f"({getattr(old, field)}, then {getattr(new, field)}): measure both alike"
            )
