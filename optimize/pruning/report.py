"""What became of each dense layer: widths, multiply-adds, bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One dense layer.

    Attributes:
        name: As the module calls it.
        outputs_before: Its width.
        outputs_after: Its width now.
        inputs_before: How many it read.
        inputs_after: How many it reads now.
        multiply_adds_before: For one candidate of the calibration requests.
        multiply_adds_after: The same now.
        bytes_before: Of its weight.
        bytes_after: Of its weight now.
        reason: Why outputs of it had to stay; empty if all of them were free to go.
    """

    name: str
    outputs_before: int
    outputs_after: int
    inputs_before: int
    inputs_after: int
    multiply_adds_before: float
    multiply_adds_after: float
    bytes_before: int
    bytes_after: int
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


def summary(reports: Sequence[LayerReport]) -> str:
    """Return one line on all layers."""
    if not reports:
        return "the program has no dense layers"
    before = sum(each.multiply_adds_before for each in reports)
    after = sum(each.multiply_adds_after for each in reports)
    narrower = [each for each in reports if each.outputs_after < each.outputs_before]
    gone = sum(each.outputs_before - each.outputs_after for each in narrower)
    old, new = (sum(getattr(each, f"bytes_{x}") for each in reports) for x in ("before", "after"))
    return (
        f"{gone:,} neurons of {len(narrower)} of {len(reports)} dense layers are gone; multiply-"
        f"adds for a candidate {before:,.0f} → {after:,.0f} ({after / before - 1:+.1%}), weights "
        f"{old:,} → {new:,} bytes"
    )
