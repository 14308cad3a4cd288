"""What became of each dense layer: widths, multiply-adds, bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.pruning.coupling import Heads

_ENDS = ("before", "after")


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One dense layer.

    Attributes:
        name: As the module calls it.
        outputs_before: Its width.
        outputs_after: Its width now.
        inputs_before: How many it read.
        inputs_after: How many it reads now.
        rank: Of the two layers that it is now; 0 if it is one still.
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
    rank: int
    multiply_adds_before: float
    multiply_adds_after: float
    bytes_before: int
    bytes_after: int
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HeadsReport:
    """One attention.

    Attributes:
        layers: Names of those that make its queries, keys and values.
        heads_before: That it had.
        heads_after: That it has now.
    """

    layers: tuple[str, ...]
    heads_before: int
    heads_after: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


def heads_reports(
    attention: Sequence[Heads], layers: Sequence[LayerReport]
) -> tuple[HeadsReport, ...]:
    """Return what became of heads, all of which have the same share of a layer's outputs."""
    found = {each.name: each for each in layers}
    reports = []
    for each in attention:
        first = found[each.layers[0]]
        left = each.count * first.outputs_after // first.outputs_before
        reports.append(HeadsReport(each.layers, each.count, left))
    return tuple(reports)


def summary(reports: Sequence[LayerReport], attention: Sequence[HeadsReport] = ()) -> str:
    """Return one line on all layers, and on the heads of attention."""
    if not reports:
        return "the program has no dense layers"
    before, after = (sum(getattr(each, f"multiply_adds_{x}") for each in reports) for x in _ENDS)
    narrower = [each for each in reports if each.outputs_after < each.outputs_before]
    gone = sum(each.outputs_before - each.outputs_after for each in narrower)
    old, new = (sum(getattr(each, f"bytes_{x}") for each in reports) for x in _ENDS)
    factored = sum(each.rank > 0 for each in reports)
    line = f"{gone:,} neurons of {len(narrower)} of {len(reports)} dense layers are gone"
    if factored:
        line += f", {factored} of low rank"
    heads = sum(each.heads_before for each in attention)
    if lost := heads - sum(each.heads_after for each in attention):
        line += f", {lost} of {heads} attention heads among them"
    return (
        f"{line}; multiply-adds for a candidate {before:,.0f} → {after:,.0f} "
        f"({after / before - 1:+.1%}), weights {old:,} → {new:,} bytes"
    )
