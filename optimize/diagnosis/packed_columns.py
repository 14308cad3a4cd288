"""Which of the columns put side by side a slice reads.

A module that takes one matrix of all features slices it apart again. Followed as a whole, each of
its tables would seem to depend on all features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import Node


def parts_read(node: Node) -> list[Node] | None:
    """Return the parts of a concatenation that ``node`` reads, if it slices one where it joined.

    Returns:
        The parts, in order; None if the node is no such slice, or sizes depend on the rows.
    """
    if not _is(node, "aten.slice"):
        return None
    source, dimension, start, end = _slice(node)
    while _is(source, "aten.slice") and _slice(source)[1] != dimension:
        source = _slice(source)[0]
    if not _is(source, "aten.cat"):
        return None
    parts: list[Node] = list(source.args[0])  # type: ignore[arg-type]
    across = source.args[1] if len(source.args) > 1 else 0
    if across % _dimensions(source) != dimension:  # type: ignore[operator]
        return None
    sizes = [part.meta["val"].shape[dimension] for part in parts]
    if not all(isinstance(each, int) for each in (*sizes, start, end)):
        return None
    total = sum(sizes)
    first, last = (max(0, each + total) if each < 0 else each for each in (start, end))
    read, begin = [], 0
    for part, size in zip(parts, sizes, strict=True):
        if begin < last and begin + size > first:
            read.append(part)
        begin += size
    return read


def _slice(node: Node) -> tuple[Node, int, Any, Any]:
    """Return what a slice is of, its dimension from 0, its start and its end."""
    values = [*node.args, *(None,) * (4 - len(node.args))]
    source: Any = values[0]
    dimension: Any = values[1] or 0
    start = 0 if values[2] is None else values[2]
    end = 2**63 - 1 if values[3] is None else values[3]
    return source, dimension % _dimensions(source), start, end


def _dimensions(node: Node) -> int:
    dimensions: int = node.meta["val"].dim()
    return dimensions


def _is(node: Node, name: str) -> bool:
    return node.op == "call_function" and str(getattr(node.target, "overloadpacket", "")) == name
