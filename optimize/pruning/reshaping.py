"""What operators do to channels that name a new shape.

Channels go on if their dimension stays whole. Split in two, what is left of them are blocks: the
columns of an attention's head, that go together. Merged with what is behind them, they are there
as often as that has places.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from optimize.flat_graph import arguments, aten, dimension
from optimize.pruning.channels import Carried, NamedSize

if TYPE_CHECKING:
    from optimize.pruning.walk import Walk


def reshape(walk: Walk, node: Node) -> Carried | None:
    """Of a view, reshape, flatten or unflatten."""
    source: Any = node.args[0]
    before = walk.carried.get(source)
    if before is None:
        return None
    if any(each in walk.carried for each in node.all_input_nodes if each is not source):
        return walk.hold(node)
    after = _whole(walk, node, before) or _merged(walk, node, before) or _split(walk, node, before)
    return walk.hold(node) if after is None else _with_size(walk, node, after)


def expand(walk: Walk, node: Node) -> Carried | None:
    """Of an expand: other dimensions than the channels' get more places."""
    source: Any = node.args[0]
    before = walk.carried.get(source)
    if before is None:
        return None
    more = walk.rank(node) - walk.rank(source)
    if walk.shapes[node][before.axis + more] != len(before.channels):
        return walk.hold(node)
    return _with_size(walk, node, Carried(before.axis + more, before.channels))


def _whole(walk: Walk, node: Node, before: Carried) -> Carried | None:
    """Return the channels if a dimension is theirs alone, as before."""
    behind, count = _behind(walk, node, before), len(before.channels)
    shape = walk.shapes[node]
    for axis in reversed(range(len(shape))):
        if shape[axis] == count and prod(shape[axis + 1 :]) == behind:
            return Carried(axis, before.channels)
    return None


def _merged(walk: Walk, node: Node, before: Carried) -> Carried | None:
    """Return the channels if a dimension is theirs and what was behind them: heads side by side."""
    behind, count = _behind(walk, node, before), len(before.channels)
    shape = walk.shapes[node]
    for axis, size in enumerate(shape):
        times, rest = divmod(size, count)
        if not rest and times > 1 and times * prod(shape[axis + 1 :]) == behind:
            return Carried(axis, tuple(x for x in before.channels for _ in range(times)))
    return None


def _split(walk: Walk, node: Node, before: Carried) -> Carried | None:
    """Return blocks of channels if their dimension, the last, is two now: heads and widths."""
    shape, count = walk.shapes[node], len(before.channels)
    if _behind(walk, node, before) > 1 or len(shape) < 2 or prod(shape[-2:]) != count:
        return None
    firsts = before.channels[:: shape[-1]]
    walk.channels.join(before.channels, [x for x in firsts for _ in range(shape[-1])])
    return Carried(len(shape) - 2, firsts)


def _behind(walk: Walk, node: Node, before: Carried) -> int:
    """Return how many places each channel has in the dimensions behind theirs."""
    source: Any = node.args[0]
    return prod(walk.shapes[source][before.axis + 1 :])


def _with_size(walk: Walk, node: Node, carried: Carried) -> Carried | None:
    """Remember where a node names the number of channels as a size."""
    argument, first = 1, 0
    if node.target == aten.unflatten.int:
        source: Any = node.args[0]
        argument, first = 2, dimension(arguments(node)["dim"], walk.rank(source))
    sizes: Any = node.args[argument] if len(node.args) > argument else None
    place = carried.axis - first
    if isinstance(sizes, list | tuple) and 0 <= place < len(sizes):
        if isinstance(sizes[place], Node):
            return walk.hold(node)
        if sizes[place] != -1:
            walk.sizes[node] = NamedSize(argument, place, carried.channels)
    return carried
