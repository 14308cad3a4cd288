"""Which of several targets is fastest, and which cannot be told from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.compare import COMPARED_QUANTILES, compare_rounds
from bench.exchange import least_rounds
from bench.latencies import percentile_label, sample_floor
from bench.measure import default_rounds
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Load
    from rankers.requests import Array

# Of all comparisons of one winner together. A grid is looked at by a person, who measures again
# what matters; `bench.compare` guards a check in CI and is stricter.
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Winner:
    """What is fastest at a percentile.

    Attributes:
        quantile: Such as 0.5.
        fastest: The target with the lowest percentile in these rounds.
        alike: The targets that were not shown to be slower than it, itself left out.
        ratio: How many times as long the next best takes; None for a single target.
    """

    quantile: float
    fastest: str
    alike: tuple[str, ...]
    ratio: float | None

    @property
    def sure(self) -> bool:
        """Whether all others were shown to be slower."""
        return not self.alike

    @property
    def text(self) -> str:
        """Such as ``onnx (1.8 times)`` or ``cannot tell: onnx, torch``."""
        if not self.sure:
            return f"cannot tell: {', '.join((self.fastest, *self.alike))}"
        return self.fastest + ("" if self.ratio is None else f" ({self.ratio:.2g} times)")

    def to_json(self) -> dict[str, Any]:
        """Return the winner as JSON-ready data."""
        return {
            "percentile": percentile_label(self.quantile),
            "fastest": self.fastest,
            "alike": list(self.alike),
            "sure": self.sure,
            "ratio": self.ratio,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Winner:
        """Read what `to_json` wrote."""
        quantile = round(float(data["percentile"].removeprefix("p")) / 100, 6)
        return cls(quantile, data["fastest"], tuple(data["alike"]), data["ratio"])


def find_winner(
    rounds: Sequence[Sequence[Array]], names: Sequence[str], quantile: float
) -> Winner | None:
    """Find the fastest of targets that were measured in turn.

    Each other target is compared with the one that came out lowest. As any of k could have done so,
    the intervals hold together with the doubt of k such comparisons.

    Args:
        rounds: As `bench.compare.compare_rounds` takes them.
        names: The targets'.
        quantile: One of `bench.compare.COMPARED_QUANTILES`.

    Returns:
        None where a target has too few latencies for the percentile.
    """
    pooled = [np.concatenate(list(each)) for each in rounds]
    if min(len(each) for each in pooled) < sample_floor(quantile):
        return None
    place = int(np.argmin([np.quantile(each, quantile) for each in pooled]))
    confidence = _confidence(len(names))
    ratios = compare_rounds(
        rounds, names, baseline=place, confidence=confidence, quantiles=(quantile,)
    )
    return Winner(
        quantile=quantile,
        fastest=names[place],
        alike=tuple(each.target for each in ratios if each.verdict != "slower"),
        ratio=min((each.value for each in ratios), default=None),
    )


def rounds_that_tell(load: Load, targets: int, rounds: int | None) -> int:
    """Return how many rounds to measure in, so that a winner can be told at all.

    Args:
        load: Of all rounds.
        targets: How many there are.
        rounds: As asked for; None for as many as suit the load.

    Raises:
        UserError: Too few were asked for.
    """
    doubt = (1 - _confidence(targets)) / max(1, (targets - 1) * len(COMPARED_QUANTILES))
    least = least_rounds(doubt)
    if rounds is not None and rounds < least:
        raise UserError(
            f"{rounds} rounds of {targets} targets tell no winner; give {least} or more"
        )
    return max(default_rounds(load), least) if rounds is None else rounds


def _confidence(targets: int) -> float:
    """Return the confidence of comparisons with one target, as any of them could have been it."""
    return 1 - (1 - CONFIDENCE) / targets
