"""Which variants no other beats: the Pareto front over any number of costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is worse in no cost and better in at least one; less is better."""
    pairs = [*zip(one, other, strict=True)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def beaten_by(costs: Mapping[str, Sequence[float]]) -> dict[str, str | None]:
    """Return for each name one that beats it, and is itself on the front; None for the front's own.

    Args:
        costs: By name, as many for each. Two that cost the same do not beat each other.
    """
    front = {
        name
        for name, cost in costs.items()
        if not any(dominates(other, cost) for other in costs.values())
    }
    return {
        name: next((x for x in costs if x in front and dominates(costs[x], cost)), None)
        for name, cost in costs.items()
    }
