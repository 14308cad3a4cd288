"""A linear layer's input as a sum of terms: whose columns it is made of, through what is linear.

Concatenations, sums, differences, scaling, chosen columns and expansions are looked through;
everything else is a term as it is, and so is what depends on one side alone: one product computes
all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from optimize.flat_graph import arguments, aten, dimension
from optimize.user_once.normalize import EXPANDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from optimize.flat_graph import FlatGraph, Shape, Side

# What goes away with a layer's input if nothing else reads it.
TAKEN_APART = {
    aten.add.Tensor, aten.cat.default, aten.index_select.default, aten.mul.Tensor,
    aten.neg.default, aten.slice.Tensor, aten.sub.Tensor, *EXPANDS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Term:
    """Part of a layer's input: columns of a value, added to columns of the input.

    Attributes:
        value: The value, ``[…, width]``.
        own: Which of its columns, int64 ``[n]``.
        columns: Which columns of the layer's input they are added to, int64 ``[n]``.
        factor: What they are multiplied with.
    """

    value: Node
    own: Tensor
    columns: Tensor
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Takes values of a graph apart."""

    graph: FlatGraph
    shapes: Mapping[Node, Shape]
    sides: Mapping[Node, Side]

    def width(self, value: Any) -> int:
        """Return the fixed size of a value's last dimension; 0 if it has none."""
        shape = self.shapes.get(value) if isinstance(value, Node) else None
        return shape[-1] if shape and shape[-1] > 0 else 0

    def of(self, term: Term) -> list[Term]:
        """Take a term apart as far as it goes."""
        x = term.value
        if x not in self.shapes or (self.sides[x] != "both" and x.target not in EXPANDS):
            return [term]
        parts = list(self._parts(term))
        if not parts:
            return [term]
        return [found for part in parts for found in self.of(part)]

    def _parts(self, term: Term) -> Iterator[Term]:
        """Yield what a term is made of; nothing if it is not looked through."""
        x, own, columns, factor = term.value, term.own, term.columns, term.factor
        given, width, target = arguments(x), self.width(x), x.target
        if target is aten.cat.default and self._is_last(x, given["dim"]):
            start = 0
            for part in given["tensors"]:
                size = self.width(part)
                inside = (own >= start) & (own < start + size)
                yield Term(part, own[inside] - start, columns[inside], factor)
                start += size
        elif target in {aten.add.Tensor, aten.sub.Tensor} and given["alpha"] == 1:
            one, other = given["self"], given["other"]
            if self.width(one) == width == self.width(other):
                sign = -1.0 if target is aten.sub.Tensor else 1.0
                yield Term(one, own, columns, factor)
                yield Term(other, own, columns, factor * sign)
        elif target in {aten.mul.Tensor, aten.div.Tensor}:
            scale = given["other"]
            if isinstance(scale, int | float) and not isinstance(scale, bool):
                scale = float(scale) if target is aten.mul.Tensor else 1.0 / float(scale)
                yield Term(given["self"], own, columns, factor * scale)
        elif target is aten.neg.default:
            yield Term(given["self"], own, columns, -factor)
        elif target in EXPANDS:
            if self.width(given["self"]) == width:
                yield Term(given["self"], own, columns, factor)
        else:
            yield from self._chosen(term, given)

    def _chosen(self, term: Term, given: Mapping[str, Any]) -> Iterator[Term]:
        """Yield what columns were chosen from."""
        x = term.value
        if x.target is aten.index_select.default and self._is_last(x, given["dim"]):
            chosen = self.graph.held(given["index"])
            if chosen is not None:
                yield Term(given["self"], chosen[term.own], term.columns, term.factor)
        elif x.target is aten.slice.Tensor and self._is_last(x, given["dim"]):
            start = given["start"] or 0
            if isinstance(start, int) and start >= 0 and given["step"] == 1:
                yield Term(given["self"], term.own + start, term.columns, term.factor)

    def _is_last(self, x: Node, along: int) -> bool:
        rank = len(self.shapes[x])
        return dimension(along, rank) == rank - 1
