"""Operands of which places that meet, aligned from the back, are one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.pruning.channels import Carried
from optimize.pruning.walk import name_of

if TYPE_CHECKING:
    from torch.fx import Node

    from optimize.pruning.walk import Walk


def aligned(walk: Walk, node: Node) -> Carried | None:
    """Return the channels of a value that an operator makes of operands that it broadcasts."""
    rank = walk.rank(node)
    operands = [each for each in node.all_input_nodes if each in walk.shapes]
    given = {each: walk.carried[each] for each in operands if each in walk.carried}
    # A single channel that is spread over many places (a layer of one output) is no channel there.
    spread = [
        each for each, x in given.items()
        if len(x.channels) == 1 and walk.shapes[node][x.axis + rank - walk.rank(each)] != 1
    ]  # fmt: skip
    for each in spread:
        walk.channels.fix(given.pop(each).channels, "spread over many places")
    axes = {x.axis - walk.rank(each) for each, x in given.items()}
    if not axes:
        return None
    if len(axes) > 1:
        return walk.hold(node)
    (back,) = axes
    size = walk.shapes[node][back]
    carried = next(iter(given.values())).channels
    for each in operands:
        shape = walk.shapes[each]
        if len(shape) < -back or shape[back] != size:
            if walk.graph.held(each) is not None:
                walk.known(each, node)
            continue  # spread over the channels: the same for each
        join_operand(walk, node, each, len(shape) + back, carried)
    return Carried(rank + back, carried)


def join_operand(
    walk: Walk, node: Node, operand: Node, axis: int, channels: tuple[int, ...]
) -> None:
    """Make channels one with those of an operand's dimension; let them stay if it has none."""
    if operand in walk.carried:
        walk.channels.join(walk.carried[operand].channels, channels)
    elif walk.graph.held(operand) is not None:
        walk.channels.join(walk.of_parameter(operand, axis), channels)
        walk.known(operand, node)
    else:
        walk.channels.fix(channels, f"{name_of(node)} with what no layer makes")
