"""Where a graph multiplies vectors with each other and takes some of the dots, as DLRM does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import arguments, aten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph

_PRODUCTS = {aten.bmm.default, aten.matmul.default}
_RESHAPES = {aten.view.default, aten.reshape.default}
_NO_END = 2**63 - 1
_MATRICES = 3  # dimensions of vectors by row


@dataclass(frozen=True, eq=False)
class FoundDots:
    """Dots of V vectors.

    Attributes:
        vectors: ``[rows, D]`` each, in the order of the matrix.
        inner: What gathers them, and nothing else may read.
        node: The dots that are taken, ``[rows, P]``.
        pairs: int64 ``[2, P]``: of which two vectors each is.
    """

    vectors: tuple[Node, ...]
    inner: frozenset[Node]
    node: Node
    pairs: Tensor


def find_dots(
    graph: FlatGraph, values: Mapping[Node, Any]
) -> tuple[list[FoundDots], dict[str, str]]:
    """Find the dots of a graph, and say why products that look like them are none."""
    found: list[FoundDots] = []
    left: dict[str, str] = {}
    for node in graph.nodes:
        if node.target not in _PRODUCTS or not _with_itself(node, values):
            continue
        made = _read(graph, node, values)
        if isinstance(made, str):
            left[f"dots of {node.name}"] = made
        else:
            found.append(made)
    return found, left


def _with_itself(node: Node, values: Mapping[Node, Any]) -> bool:
    first, second = node.args[0], node.args[1]
    if not isinstance(second, torch.fx.Node) or values[node].dim() != _MATRICES:
        return False
    given = arguments(second)
    if second.target is aten.transpose.int:
        turned = {given["dim0"] % _MATRICES, given["dim1"] % _MATRICES} == {1, 2}
    elif second.target is aten.permute.default:
        turned = [each % _MATRICES for each in given["dims"]] == [0, 2, 1]
    else:
        turned = second.target in {aten.mT.default, aten.adjoint.default}
    return turned and second.args[0] is first


def _read(graph: FlatGraph, node: Node, values: Mapping[Node, Any]) -> FoundDots | str:
    matrix, turned = node.all_input_nodes
    inner = {node, turned}
    vectors = _vectors(matrix, values, inner)
    if vectors is None:
        return "their vectors are not put together one by one"
    taken = node
    while taken is node or _takes_all(taken):
        if len(taken.users) != 1:
            return "more than one reads them"
        inner.add(taken)
        (taken,) = taken.users
    pairs = _pairs(graph, taken)
    if pairs is None:
        return "they are not taken by pairs that are known, each once"
    return FoundDots(tuple(vectors), frozenset(inner), taken, pairs)


def _takes_all(node: Node) -> bool:
    """Whether a slice is of all rows."""
    if node.target is not aten.slice.Tensor:
        return False
    given = arguments(node)
    whole = given["end"] is None or given["end"] == _NO_END
    return bool(given["dim"] == 0 and given["start"] in {0, None} and whole and given["step"] == 1)


def _pairs(graph: FlatGraph, node: Node) -> Tensor | None:
    """Return what an index takes of ``[rows, V, V]``, if it takes fixed pairs, each once."""
    places = arguments(node).get("indices") if node.target is aten.index.Tensor else None
    if places is None or len(places) != _MATRICES or places[0] is not None:
        return None
    first, second = (graph.held(each) for each in places[1:])
    if first is None or second is None:
        return None
    pairs = torch.stack([first, second])
    return pairs if torch.unique(pairs, dim=1).shape == pairs.shape else None


def _vectors(node: Any, values: Mapping[Node, Any], inner: set[Node]) -> list[Node] | None:
    """Return the vectors that a value ``[rows, V, D]`` is made of, and note what makes it."""
    inner.add(node)
    given = arguments(node)
    if node.target is aten.unsqueeze.default and given["dim"] in {1, -2}:
        return [given["self"]]
    if node.target is aten.stack.default and given["dim"] in {1, -2}:
        return list(given["tensors"])
    if node.target is aten.cat.default and given["dim"] in {1, -2}:
        parts = [_vectors(each, values, inner) for each in given["tensors"]]
        return None if any(each is None for each in parts) else [x for p in parts if p for x in p]
    if node.target in _RESHAPES and node.args[0].target is aten.cat.default:
        flat = node.args[0]
        inner.add(flat)
        pieces = list(arguments(flat)["tensors"])
        width = values[node].shape[2]
        fits = values[flat].dim() == _MATRICES - 1 and arguments(flat)["dim"] in {1, -1}
        return pieces if fits and all(values[x].shape[1] == width for x in pieces) else None
    return None
