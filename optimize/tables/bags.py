"""Where the rows that a lookup reads are summed up: a bag, a mean of a history, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimize.flat_graph import arguments, aten, dimension

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node

    from optimize.flat_graph import Shape


def end_of_bag(lookup: Node, shapes: Mapping[Node, Shape]) -> Node:
    """Return the last sum over rows that a lookup's rows go into by linear steps alone.

    Steps take all columns of a row alike, so that a product by a matrix may come before or after.

    Args:
        lookup: Gives rows ``[…, D]``.
        shapes: Of the graph's nodes.

    Returns:
        The node, ``[…, D]``; the lookup itself if its rows are not summed.
    """
    end = node = lookup
    while len(node.users) == 1 and node in shapes:
        (user,) = node.users
        given = arguments(user)
        rank = len(shapes[node])
        if user.target in {aten.sum.dim_IntList, aten.mean.dim}:
            over = [dimension(each, rank) for each in given["dim"] or ()]
            if not over or rank - 1 in over or given.get("dtype") is not None:
                return end
            end = user
        elif not _scales(user, node, given, shapes):
            return end
        node = user
    return end


def _scales(user: Node, node: Node, given: dict[str, Any], shapes: Mapping[Node, Shape]) -> bool:
    """Whether a node multiplies each row ``[…, D]`` of another by a number of its own."""
    if user.target is aten.masked_fill.Scalar:
        by = given["mask"] if given["self"] is node and given["value"] == 0 else node
    elif user.target in {aten.mul.Tensor, aten.div.Tensor} and given["self"] is node:
        by = given["other"]
    elif user.target is aten.mul.Tensor:
        by = given["self"]
    else:
        return False
    if isinstance(by, int | float):
        return True
    return by is not node and by in shapes and (not shapes[by] or shapes[by][-1] == 1)
