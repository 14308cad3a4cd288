"""A linear layer over user and item at once becomes one over each, the user's once a request.

``W [u; v] + b = (W_u u + b) + W_v v``, through whatever is linear on the way to the layer
(`optimize.user_once.rewrites.linear_terms`). So DIN's and every target attention's first layer over
``[h, t, h - t, h * t]`` becomes three: ``h`` has ``W_1 + W_3`` and needs computing once for the
user, ``t`` has ``W_2 - W_3`` and needs no repeating for each event, and only ``h * t`` is left for
each event of each candidate.

For that product, ``W_4 (h * t) = (W_4 diag(t)) h``: with h of ``[L, D]`` and O outputs, a matrix of
``[D, O]`` is made for each candidate in place of a product of ``[L, D]``, and h's own matrix
``W_1 + W_3`` is added to it, so that one matrix product does both. With a column of ones beside h,
what is the candidate's own is one more row of the matrix, and nothing is added to the result of
``[N, L, O]``. It pays where O is not much larger than L.

Sources: Kuaishou's MaRI (2025) for the split of a concatenation, lossless; that fragments in the
input's order lose what it gains is why parts are grouped here by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from optimize.flat_graph import arguments, aten, stand_in
from optimize.user_once.cost import Cost, Request, elementwise, product
from optimize.user_once.normalize import broadcast
from optimize.user_once.rewrites.linear_terms import TAKEN_APART, Term, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from optimize.flat_graph import FlatGraph, Shape, Side

_WHOSE = {"none": "neither", "user": "the user", "item": "the item", "both": "both"}


@dataclass(frozen=True, slots=True)
class _Group:
    """Terms that one product computes: of one side, with one shape before the columns.

    Attributes:
        weights: By value its part of the layer's weight, ``[O, width]``.
    """

    side: Side
    leading: Shape
    weights: dict[Node, Tensor]

    @property
    def inputs(self) -> int:
        return sum(weight.shape[1] for weight in self.weights.values())


@dataclass(frozen=True, slots=True)
class _Product:
    """A value ``h * t``, h ``[rows, L, D]`` of the user and t ``[rows, 1, D]`` not."""

    value: Node
    h: Node
    t: Node


def split_linear_layers(graph: FlatGraph, request: Request) -> list[str]:
    """Rewrite every linear layer for which it pays; see the module's docstring."""
    done = []
    terms = Terms(graph, graph.shapes(), graph.sides())
    for node in graph.nodes:
        if node.target is aten.linear.default:
            given = arguments(node)
            weight = graph.held(given["weight"])
            if weight is not None and node in terms.shapes and given["input"] in terms.shapes:
                done += _Layer(terms, node, weight, request).rewrite()
    graph.clean()
    return done


class _Layer:
    """One linear layer, ``[…, I]`` to ``[…, O]``."""

    def __init__(self, terms: Terms, node: Node, weight: Tensor, request: Request) -> None:
        self._terms = terms
        self._graph = terms.graph
        self._shapes: Any = terms.shapes
        self._sides: Any = terms.sides
        self._node = node
        self._source: Node = arguments(node)["input"]
        self._bias: Node | None = arguments(node)["bias"]
        self._weight = weight  # [O, I]
        self._request = request

    def rewrite(self) -> list[str]:
        """Replace the layer by cheaper ones; return what was done, nothing if none are."""
        columns = torch.arange(self._weight.shape[1])
        groups = self._groups(self._terms.of(Term(self._source, columns, columns)))
        if len(groups) == 1 and groups[0].leading == self._shapes[self._source][:-1]:
            return []
        products = self._products(groups)
        plain, factored = self._cost(groups, ()), self._cost(groups, products)
        if factored.seconds >= plain.seconds:
            products = ()
        if min(plain.seconds, factored.seconds) >= self._flat_cost().seconds:
            return []
        self._build(groups, products)
        parts = ", ".join(f"{each.inputs} columns of {_WHOSE[each.side]}" for each in groups)
        by_matrix = ", a product by the candidate's own matrix" if products else ""
        return [f"linear layer of {self._weight.shape[1]} columns: {parts}{by_matrix}"]

    def _groups(self, terms: list[Term]) -> list[_Group]:
        """Put terms together by shape, the user's apart; each value's weights are added up.

        What is the item's goes with what is both's, if there is such: one product of a candidate's
        columns side by side is cheaper than two and their sum.
        """
        found: dict[tuple[Side, Shape], dict[Node, Tensor]] = {}
        sides, shapes = self._sides, self._shapes
        mixed = {shapes[term.value][:-1] for term in terms if sides[term.value] == "both"}
        for term in terms:
            side, leading = sides[term.value], shapes[term.value][:-1]
            if side == "item" and leading in mixed:
                side = "both"
            weights = found.setdefault((side, leading), {})
            if term.value not in weights:
                width = self._terms.width(term.value)
                weights[term.value] = self._weight.new_zeros(len(self._weight), width)
            added = term.factor * self._weight[:, term.columns]
            weights[term.value].index_add_(1, term.own, added)
        return [_Group(*key, weights) for key, weights in found.items()]

    def _products(self, groups: list[_Group]) -> tuple[_Product, ...]:
        values = (x for group in groups if group.side == "both" for x in group.weights)
        found = (self._product(x) for x in values if x.target is aten.mul.Tensor)
        return tuple(each for each in found if each is not None)

    def _product(self, value: Node) -> _Product | None:
        given = arguments(value)
        one, other = given["self"], given["other"]
        for h, t in ((one, other), (other, one)):
            if not isinstance(h, Node) or not isinstance(t, Node):
                return None
            long, short = self._shapes.get(h, ()), self._shapes.get(t, ())
            aligned = len(long) == len(short) == 3 and long[0] == short[0] == -1
            if aligned and self._sides[h] == "user" and short[1] == 1 < long[1]:  # noqa: SIM102
                if long[2] == short[2] > 0:
                    return _Product(value, h, t)
        return None

    def _flat_cost(self) -> Cost:
        """What the layer and what is computed for it alone cost."""
        leading = self._shapes[self._source][:-1]
        cost = self._product_cost(self._sides[self._node], leading, self._weight.shape[1])
        gone: set[Node] = {self._node}
        waiting = [self._source]
        while waiting:
            x = waiting.pop()
            if x.target in TAKEN_APART and x in self._shapes and all(y in gone for y in x.users):
                gone.add(x)
                cost += elementwise(self._request.elements(self._shapes[x], self._sides[x]))
                waiting += x.all_input_nodes
        return cost

    def _cost(self, groups: list[_Group], products: tuple[_Product, ...]) -> Cost:
        cost = Cost()
        for each in products:
            width = self._terms.width(each.h)
            matrices = elementwise(self._request.candidates * width * len(self._weight))
            cost += matrices + matrices
            cost += self._product_cost("both", self._shapes[each.value][:-1], width)
        absorbed = {x for each in products for x in (each.value, each.h)}
        summands = len(products)
        own = self._own(groups, products)
        if own is not None:
            width = self._terms.width(products[0].h) + 1
            cost += elementwise(self._request.candidates * width * len(self._weight))
            summands -= 1
        for group in groups:
            left = [value for value in group.weights if value not in absorbed]
            if left:
                summands += 1
                inputs = sum(self._terms.width(value) for value in left)
                cost += self._product_cost(group.side, group.leading, inputs)
            for value in left:
                if value.target is aten.mul.Tensor and group.side == "both":
                    cost += elementwise(self._request.elements(self._shapes[value], "both"))
        whole = self._request.elements(self._shapes[self._node], self._sides[self._node])
        for _ in range(summands - 1):
            cost += elementwise(whole)
        return cost

    def _product_cost(self, side: Side, leading: Shape, inputs: int) -> Cost:
        return product(self._request.elements(leading, side), inputs, len(self._weight))

    def _build(self, groups: list[_Group], products: tuple[_Product, ...]) -> None:
        """Put the new layers in place of the old one; small sums come first."""
        weights = {value: weight for group in groups for value, weight in group.weights.items()}
        summands: list[tuple[Node, Shape, Side]] = []
        own = self._own(groups, products)
        bias = self._bias
        for each in products:
            matrix = self._matrix(each.t, weights.pop(each.value), weights.pop(each.h, None))
            h = each.h
            if own is not None and each is products[0]:
                row = self._layer_over({value: weights.pop(value) for value in own.weights}, bias)
                bias = None
                matrix = self._call(aten.cat.default, [matrix, row], 1)  # [rows, D + 1, O]
                h = self._call(aten.constant_pad_nd.default, h, [0, 1], 1.0)  # [rows, L, D + 1]
            made = self._call(aten.matmul.default, h, matrix)
            summands.append((made, self._shapes[each.value][:-1], "both"))
        for group in groups:
            left = {value: weights[value] for value in group.weights if value in weights}
            if left:
                summands.append((self._layer_over(left, None), group.leading, group.side))
        summands.sort(key=lambda each: self._request.elements(each[1], each[2]))
        total, leading, _ = summands[0]
        if bias is not None and total.target is aten.linear.default:
            total.args = (*total.args[:2], bias)
        elif bias is not None:
            total = self._call(aten.add.Tensor, total, bias)
        for value, shape, _ in summands[1:]:
            total = self._call(aten.add.Tensor, total, value)
            leading = broadcast(leading, shape) or ()
        if leading != self._shapes[self._node][:-1]:
            total = self._call(aten.expand_as.default, total, self._source)
        stand_in(self._node, total, self._shapes, self._sides)

    def _own(self, groups: list[_Group], products: tuple[_Product, ...]) -> _Group | None:
        """Return what is each candidate's own, ``[rows, 1, …]``, if a product can take it in."""
        if not products:
            return None
        length, width = self._shapes[products[0].h][1:]
        fitting = (each for each in groups if each.side != "user" and each.leading == (-1, 1))
        return next(fitting, None) if width + 1 < length else None

    def _layer_over(self, weights: dict[Node, Tensor], bias: Node | None) -> Node:
        values = list(weights)
        joined = values[0] if len(values) == 1 else self._call(aten.cat.default, values, -1)
        weight = self._constant(torch.cat(list(weights.values()), dim=1))
        return self._call(aten.linear.default, joined, weight, bias)

    def _matrix(self, t: Node, weight: Tensor, of_h: Tensor | None) -> Node:
        """Return ``diag(t) Wᵀ (+ W_hᵀ)``, ``[rows, D, O]``."""
        column = self._call(aten.transpose.int, t, 1, 2)  # [rows, D, 1]
        matrix = self._call(aten.mul.Tensor, column, self._constant(weight.T))
        if of_h is None:
            return matrix
        return self._call(aten.add.Tensor, matrix, self._constant(of_h.T))

    def _constant(self, value: Tensor) -> Node:
        return self._graph.constant(f"{self._node.name}_weight", value, self._node)

    def _call(self, target: Any, *args: Any) -> Node:
        with self._graph.module.graph.inserting_before(self._node):
            return self._graph.module.graph.call_function(target, args)
