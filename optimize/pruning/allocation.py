"""Which neurons go: the cheapest for the multiply-adds that they save, over all layers at once.

What a neuron is worth is how far scores move without it once the other inputs of the layers that
read it stand in for it as well as they can: its residual variance given them, times the squared
slope of scores along it. That is 1 / [C⁻¹]ᵢᵢ for the covariance C of a layer's inputs, and taking
it out is a rank-one step of C⁻¹, so the next neuron is weighed by what is left. Of one that is
several inputs S of a layer, as a head is, the residual variances are those of ([C⁻¹]ₛₛ)⁻¹.
Sources: Hassibi and Stork, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon,
NIPS 1992; Molchanov et al., Importance Estimation for Neural Network Pruning, arXiv:1906.10771.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from optimize.pruning.coupling import Coupling, Group, Layer
    from optimize.pruning.statistics import LayerStatistics

# Of the mean variance of a layer's inputs: keeps inverses of what hardly varies finite.
RIDGE = 1e-4


@dataclass(frozen=True)
class Elimination:
    """A group's neurons in the order in which they would go.

    Attributes:
        order: Numbers of neurons.
        costs: What each costs after those before it.
    """

    order: tuple[int, ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class Budget:
    """How far layers may shrink.

    Attributes:
        keep: The share of multiply-adds that may stay, of ``whole``.
        whole: Multiply-adds that the share is of.
        multiple: Widths are whole multiples of it.
        min_width: The narrowest a layer gets.
    """

    keep: float
    whole: float
    multiple: int
    min_width: int


def multiply_adds(
    coupling: Coupling, statistics: Mapping[str, LayerStatistics], sizes: Mapping[str, Sizes]
) -> dict[str, float]:
    """Return the multiply-adds of each layer for one candidate, by key.

    Args:
        coupling: Of the graph.
        statistics: Of its layers: how many rows each reads for a candidate.
        sizes: Of its layers, outputs and inputs.
    """
    return {
        each.key: statistics[each.key].rows
        / statistics[each.key].scored
        * sizes[each.key][0]
        * sizes[each.key][1]
        for each in coupling.layers
    }


def choose(
    coupling: Coupling, statistics: Mapping[str, LayerStatistics], budget: Budget
) -> tuple[dict[int, set[int]], float]:
    """Choose the neurons that go until the budget is met.

    Returns:
        By the number of the group, numbers of neurons; and the share of multiply-adds that stays,
        above the budget's if nothing more can go.
    """
    sizes = {x.key: sizes_of(coupling, x) for x in coupling.layers}
    eliminations = [_eliminate(coupling, each, statistics) for each in coupling.groups]
    gone = [0] * len(coupling.groups)
    left = sum(multiply_adds(coupling, statistics, sizes).values())
    while left > budget.keep * budget.whole:
        found: list[tuple[float, int, int, float]] = []
        for number, (group, each) in enumerate(zip(coupling.groups, eliminations, strict=True)):
            block = _next_block(group, sizes, len(group.neurons) - gone[number], budget)
            if not block:
                continue
            smaller = _without(group, block, sizes)
            saved = left - sum(multiply_adds(coupling, statistics, smaller).values())
            cost = sum(each.costs[gone[number] : gone[number] + block])
            found.append((cost / saved, number, block, saved))
        if not found:
            break
        _, number, block, saved = min(found)
        sizes = _without(coupling.groups[number], block, sizes)
        gone[number] += block
        left -= saved
    chosen = {
        number: set(eliminations[number].order[:count])
        for number, count in enumerate(gone)
        if count
    }
    return chosen, left / budget.whole


def least_share(
    coupling: Coupling, statistics: Mapping[str, LayerStatistics], budget: Budget
) -> float:
    """Return the share of multiply-adds that stays if all goes that may."""
    sizes = {x.key: sizes_of(coupling, x) for x in coupling.layers}
    for group in coupling.groups:
        width = len(group.neurons)
        while block := _next_block(group, sizes, width, budget):
            sizes, width = _without(group, block, sizes), width - block
    return sum(multiply_adds(coupling, statistics, sizes).values()) / budget.whole


Sizes = tuple[int, int]


def sizes_of(coupling: Coupling, layer: Layer) -> Sizes:
    """Return how many outputs and inputs a layer has."""
    return len(coupling.places[layer.key, 0]), len(coupling.places[layer.key, 1])


def _without(group: Group, count: int, sizes: Mapping[str, Sizes]) -> dict[str, Sizes]:
    """Return sizes of layers without so many neurons of a group."""
    found = dict(sizes)
    for (key, axis), places in group.signature.items():
        if key in found:
            outputs, inputs = found[key]
            less = count * places
            found[key] = (outputs - less, inputs) if axis == 0 else (outputs, inputs - less)
    return found


def _next_block(group: Group, sizes: Mapping[str, Sizes], left: int, budget: Budget) -> int:
    """Return how many neurons go at once, so that widths stay multiples; 0 if none can go."""
    width, places = min(
        (sizes[key][0], count)
        for (key, axis), count in group.signature.items()
        if axis == 0 and key in sizes
    )
    for block in range(1, left):
        narrower = width - block * places
        if narrower < max(budget.min_width, 1):
            break
        if narrower % budget.multiple == 0:
            return block
    return 0


def _eliminate(
    coupling: Coupling, group: Group, statistics: Mapping[str, LayerStatistics]
) -> Elimination:
    """Take neurons out one after another, the one that costs least first."""
    sites = []
    for layer in coupling.layers:
        where = (layer.key, 1)
        if where not in group.signature:
            continue
        of_layer = statistics[layer.key]
        spread = regular(of_layer.spread(centred=layer.bias is not None))
        columns = torch.tensor([each[where] for each in group.neurons])  # [neurons, places]
        sites.append((torch.linalg.inv(spread), columns, of_layer.sensitivity))
    order, costs = [], []
    left = torch.ones(len(group.neurons), dtype=torch.bool)
    for _ in range(len(group.neurons) - 1):
        cost = torch.zeros(len(group.neurons), dtype=torch.float64)
        for inverse, columns, sensitivity in sites:
            cost += (sensitivity[columns] * _residuals(inverse, columns)).sum(1)
        cost[~left] = torch.inf
        out = int(cost.argmin())
        order.append(out)
        costs.append(float(cost[out]))
        left[out] = False
        for inverse, columns, _ in sites:
            for column in columns[out].tolist():
                _take_out(inverse, column)
    return Elimination(tuple(order), tuple(costs))


def _residuals(inverse: Tensor, columns: Tensor) -> Tensor:
    """Return what varies of each neuron's columns once all inputs but those stand in.

    Args:
        inverse: Of the inputs' covariance, ``[I, I]``.
        columns: Of the neurons, ``[neurons, places]``.

    Returns:
        ``[neurons, places]``: the diagonals of the inverses of each neuron's own block.
    """
    if columns.shape[1] == 1:
        return 1 / inverse.diagonal()[columns]
    blocks = inverse[columns[:, :, None], columns[:, None, :]]
    variances: Tensor = torch.linalg.inv(blocks).diagonal(dim1=1, dim2=2)
    return variances


def regular(spread: Tensor) -> Tensor:
    """Return a covariance ``[I, I]`` that can be inverted."""
    ridge = max(RIDGE * float(spread.diagonal().mean()), 1e-12)
    return spread + ridge * torch.eye(len(spread), dtype=spread.dtype)


def _take_out(inverse: Tensor, column: int) -> None:
    """Make the inverse of a covariance that of the same without a column, in place.

    The column's own row is left with a 1, so that nothing is divided by zero.
    """
    row = inverse[column].clone()
    inverse -= torch.outer(row, row) / row[column]
    inverse[column], inverse[:, column] = 0.0, 0.0
    inverse[column, column] = 1.0
