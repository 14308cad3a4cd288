"""What attention does to channels: whole heads go on, and are one in queries, keys and values.

A head is a place of the dimension that products run over, each place by itself: without a head the
others compute what they did before. What a product sums over, or the width of a head, stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.flat_graph import arguments
from optimize.pruning.aligned import aligned, join_operand
from optimize.pruning.channels import Carried

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import Node

    from optimize.pruning.walk import Walk


def attend(walk: Walk, node: Node) -> Carried | None:
    """Of scaled_dot_product_attention: queries, keys, values and the mask have the same heads."""
    if arguments(node)["enable_gqa"]:  # then a head of keys is several of queries
        return walk.hold(node)
    return multiply(walk, node)


def multiply(walk: Walk, node: Node) -> Carried | None:
    """Of products of the last two dimensions; those before are broadcast."""
    operands = [each for each in node.all_input_nodes if each in walk.shapes]
    ranks = [walk.rank(each) for each in operands]
    last_two = any(
        walk.carried[each].axis >= rank - 2
        for each, rank in zip(operands, ranks, strict=True)
        if each in walk.carried
    )
    if last_two or walk.rank(node) != max(ranks):
        return walk.hold(node)
    return _of_heads(walk, operands, aligned(walk, node))


def contract(walk: Walk, node: Node) -> Carried | None:
    """Of an einsum: heads are a letter that its value has, and each operand once."""
    given = arguments(node)
    equation, operands = given["equation"].replace(" ", ""), given["tensors"]
    inputs, arrow, output = equation.partition("->")
    letters = inputs.split(",")
    found = {
        term[walk.carried[each].axis]
        for term, each in zip(letters, operands, strict=True)
        if each in walk.carried and "." not in equation
    }
    if not found:
        return walk.hold(node)
    letter = found.pop()
    if found or not arrow or any(x.count(letter) > 1 for x in letters) or letter not in output:
        return walk.hold(node)
    first = next(walk.carried[each].channels for each in operands if each in walk.carried)
    for term, each in zip(letters, operands, strict=True):
        if letter in term:
            join_operand(walk, node, each, term.index(letter), first)
    return _of_heads(walk, operands, Carried(output.index(letter), first))


def _of_heads(walk: Walk, operands: Sequence[Node], found: Carried | None) -> Carried | None:
    """Tell a product over heads from one of a value with channels and another without."""
    if found is None or sum(each in walk.carried for each in operands) < 2:
        return found
    if not walk.heads:
        walk.channels.fix(found.channels, "its heads are to stay")
        return None
    walk.attention.append(found.channels)
    return found
