"""Which of several measured targets to keep: the best for p99, and a change only for a reason.

Targets come in order of preference, the simplest first. The first is the champion; each that
follows takes its place only if it is faster beyond doubt, and by 5 % at least: at p99, or at p50
where p99 does not tell the two apart so far. One artifact opened twice is often a few per cent from
itself, beyond doubt, for where its memory happened to lie: that is no reason to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.compare import CONFIDENCE, WORTH_FINDING, Ratio, compare_rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.requests import Array

_DECISIVE_QUANTILES = (0.99, 0.5)  # in order


@dataclass(frozen=True, slots=True)
class Duel:
    """A challenger against the champion of its turn.

    Attributes:
        challenger: Its name.
        champion: Whose place it may take.
        ratios: The challenger's percentiles ÷ the champion's.
    """

    challenger: str
    champion: str
    ratios: tuple[Ratio, ...]

    @property
    def won(self) -> bool:
        """Whether the challenger is faster at the first percentile that sets them apart."""
        apart = {each.quantile: each.verdict for each in self.ratios if _is_worth_telling(each)}
        told = [apart[quantile] for quantile in _DECISIVE_QUANTILES if quantile in apart]
        return bool(told) and told[0] == "faster"

    def to_json(self) -> dict[str, Any]:
        """Return the duel as JSON-ready data."""
        return {
            "challenger": self.challenger,
            "champion": self.champion,
            "won": self.won,
            "ratios": [each.to_json() for each in self.ratios],
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """What was kept, and the duels that led to it."""

    kept: str
    duels: tuple[Duel, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the choice as JSON-ready data."""
        return {"kept": self.kept, "duels": [each.to_json() for each in self.duels]}


def _is_worth_telling(ratio: Ratio) -> bool:
    far = max(ratio.value, 1 / ratio.value) >= 1 + WORTH_FINDING
    return far and ratio.verdict != "cannot tell"


def choose(
    rounds: Sequence[Sequence[Array]], names: Sequence[str], *, confidence: float = CONFIDENCE
) -> Choice:
    """Choose among targets that were measured in turn.

    Args:
        rounds: For each target, for each round, its latencies ``[count]`` in seconds, as
            `bench.compare.compare_rounds` takes them.
        names: The targets', in order of preference; at least one.
        confidence: That all the intervals of all duels hold together.
    """
    champion, duels = 0, []
    doubt = (1 - confidence) / max(1, len(names) - 1)
    for challenger in range(1, len(names)):
        ratios = compare_rounds(
            [rounds[champion], rounds[challenger]],
            [names[champion], names[challenger]],
            confidence=1 - doubt,
        )
        duels.append(Duel(names[challenger], names[champion], ratios))
        if duels[-1].won:
            champion = challenger
    return Choice(names[champion], tuple(duels))
