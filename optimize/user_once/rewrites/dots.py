"""DLRM's dots: those among the user's vectors once, those with the item's as one matrix product.

``V Vᵀ`` over all F vectors of a row, of which chosen pairs are kept, is three products: the user's
vectors with each other (once a request), the item's with the user's (``[Fi, D] x [D, Fu]``), and
the item's with each other. The vectors need no stacking for each candidate then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import arguments, aten, dimension, stand_in

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape, Side
    from optimize.user_once.cost import Request

_PRODUCTS = {aten.bmm.default, aten.matmul.default}


def split_dots(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001 - all alike
    """Rewrite the dots of stacked vectors of both sides. It always pays: less of everything."""
    done = []
    shapes, sides = graph.shapes(), graph.sides()
    for node in graph.nodes:
        if node.target is aten.index.Tensor:
            said = _Dots(graph, node, shapes, sides).rewrite()
            if said:
                done.append(said)
    graph.clean()
    return done


class _Dots:
    """One choice of pairs: ``(V @ V.transpose(1, 2))[:, one, other]``."""

    def __init__(
        self, graph: FlatGraph, node: Node, shapes: dict[Node, Shape], sides: dict[Node, Side]
    ) -> None:
        self._graph = graph
        self._node = node
        self._shapes = shapes
        self._sides = sides

    def rewrite(self) -> str:
        """Replace it; return what was done, or nothing if it is something else."""
        pairs = self._pairs()
        parts = self._vectors() if pairs is not None else None
        if pairs is None or parts is None:
            return ""
        users = [part for part in parts if self._sides[part] in {"user", "none"}]
        others = [part for part in parts if self._sides[part] not in {"user", "none"}]
        if not others or not any(self._sides[each] == "user" for each in users):
            return ""
        # Where each vector is now: below 0 in the user's, from 0 up in the others'.
        place, counts = {}, {True: 0, False: 0}
        start = 0
        for part in parts:
            own = part in users
            for _ in range(self._count(part)):
                place[start] = (own, counts[own])
                counts[own] += 1
                start += 1
        self._build(pairs, place, self._stack(users), self._stack(others), counts)
        return f"dots of {counts[True]} vectors of the user and {counts[False]} others"

    def _pairs(self) -> tuple[Tensor, Tensor] | None:
        indices = arguments(self._node)["indices"]
        if len(indices) != 3 or indices[0] is not None:
            return None
        one, other = (self._graph.held(each) for each in indices[1:])
        if one is None or other is None or one.dim() != 1 or other.dim() != 1:
            return None
        return one, other

    def _vectors(self) -> list[Node] | None:
        """Return what is stacked to V, each ``[rows, D]`` or ``[rows, n, D]``."""
        product = arguments(self._node)["self"]
        if product.target not in _PRODUCTS:
            return None
        v, turned = product.args
        if not _is_transposed(turned, v) or v.target not in {aten.stack.default, aten.cat.default}:
            return None
        given = arguments(v)
        if len(self._shapes.get(v, ())) != 3 or dimension(given["dim"], 3) != 1:
            return None
        parts: list[Node] = list(given["tensors"])
        shapes = [self._shapes.get(each, ()) for each in parts]
        fit = all(each[:1] == (-1,) and min(each[1:], default=0) > 0 for each in shapes)
        return parts if fit else None

    def _count(self, part: Node) -> int:
        shape = self._shapes[part]
        return 1 if len(shape) == 2 else shape[1]

    def _stack(self, parts: list[Node]) -> Node:
        """Return the parts as ``[rows, n, D]``."""
        if all(len(self._shapes[each]) == 2 for each in parts):
            return self._call(aten.stack.default, parts, 1)
        return self._call(aten.cat.default, parts, 1)

    def _build(
        self,
        pairs: tuple[Tensor, Tensor],
        place: dict[int, tuple[bool, int]],
        users: Node,
        others: Node,
        counts: dict[bool, int],
    ) -> None:
        chosen: dict[str, list[tuple[int, int, int]]] = {"user": [], "mixed": [], "others": []}
        for position, (one, other) in enumerate(zip(*(x.tolist() for x in pairs), strict=True)):
            (one_own, i), (other_own, j) = place[one], place[other]
            if one_own and other_own:
                chosen["user"].append((i, j, position))
            elif one_own or other_own:
                item, user = (j, i) if one_own else (i, j)
                chosen["mixed"].append((item, user, position))
            else:
                chosen["others"].append((i, j, position))
        results, order = [], []
        transposed = self._call(aten.transpose.int, users, 1, 2)  # [rows, D, Fu]
        if chosen["user"]:
            results.append(
                self._choose(
                    self._call(aten.matmul.default, users, transposed),
                    chosen["user"],
                    (counts[True], counts[True]),
                )
            )
            order += [each[2] for each in chosen["user"]]
        if chosen["mixed"]:
            mixed = self._call(aten.matmul.default, others, transposed)  # [rows, Fi, Fu]
            results.append(
                self._choose(mixed, sorted(chosen["mixed"]), (counts[False], counts[True]))
            )
            order += [each[2] for each in sorted(chosen["mixed"])]
        if chosen["others"]:
            turned = self._call(aten.transpose.int, others, 1, 2)
            results.append(
                self._choose(
                    self._call(aten.matmul.default, others, turned),
                    chosen["others"],
                    (counts[False], counts[False]),
                )
            )
            order += [each[2] for each in chosen["others"]]
        total = self._call(aten.cat.default, results, 1)
        back = torch.empty(len(order), dtype=torch.int64)
        back[torch.tensor(order)] = torch.arange(len(order))
        ordered = self._call(aten.index_select.default, total, 1, self._constant(back))
        stand_in(self._node, ordered, self._shapes, self._sides)

    def _choose(self, dots: Node, cells: list[tuple[int, int, int]], size: tuple[int, int]) -> Node:
        """Return chosen cells of ``[rows, *size]``, ``[rows, n]``."""
        rows, columns = size
        flat = self._call(aten.flatten.using_ints, dots, 1, 2)
        places = [i * columns + j for i, j, _ in cells]
        if places == list(range(rows * columns)):
            return flat
        chosen = self._constant(torch.tensor(places))
        return self._call(aten.index_select.default, flat, 1, chosen)

    def _constant(self, value: Tensor) -> Node:
        return self._graph.constant(f"{self._node.name}_cells", value, self._node)

    def _call(self, target: Any, *args: Any) -> Node:
        with self._graph.module.graph.inserting_before(self._node):
            return self._graph.module.graph.call_function(target, args)


def _is_transposed(value: Node, of: Node) -> bool:
    """Whether a value is another with its last two of three dimensions exchanged."""
    given = arguments(value)
    if given.get("self") is not of:
        return False
    if value.target is aten.permute.default:
        return list(given["dims"]) == [0, 2, 1]
    swapped = value.target is aten.transpose.int
    return swapped and {dimension(given["dim0"], 3), dimension(given["dim1"], 3)} == {1, 2}
