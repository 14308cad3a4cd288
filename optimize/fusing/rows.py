"""Where a graph looks rows of tables up, and in which form the tables are held.

A table of floats is read by one operator. One in codes is read by the many that `optimize.tables.
quantize` writes; they are told by what they give: the rows that the codes stand for, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import aten
from optimize.kernels.stacked_tables import BITS, HeldRows
from optimize.tables.codes import Codes, decode
from optimize.tables.program import SCALES, ids_of, short_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph

_KINDS = {torch.float32: 32, torch.float16: 16}
_STEPS = 8


@dataclass(frozen=True, eq=False)
class Rows:
    """A value that is rows of one table.

    Attributes:
        node: The rows as float32, ``[…, D]``.
        ids: What they are looked up by, ``[…]``.
        name: The table's, as the module calls it.
        table: As it is held; the same object for the same table.
        lookups: What reads it: of codes, their scales' numbers too.
        operators: How many are no longer needed if the kernel gives the rows.
        dimension: D.
        scales: float32 ``[256]`` of a table in codes.
    """

    node: Node
    ids: Node
    name: str
    table: HeldRows
    lookups: tuple[Node, ...]
    operators: int
    dimension: int
    scales: Tensor | None = None


def find_rows(graph: FlatGraph, values: Mapping[Node, Any]) -> tuple[list[Rows], dict[str, str]]:
    """Find all rows in a graph.

    Args:
        graph: Of either layout, its bags unfolded.
        values: What every node gives for a sample.

    Returns:
        The rows, in the graph's order; and why others are left, by the table's name.
    """
    tables: dict[tuple[int, torch.Size, int], HeldRows] = {}
    found: list[Rows] = []
    left: dict[str, str] = {}
    for node in graph.nodes:
        ids, source = ids_of(node), node.args[0] if node.args else None
        weight = graph.held(source)
        if ids is None or weight is None or weight.dim() != 2:
            continue
        name = short_name(str(source.target))  # type: ignore[union-attr]
        given = values[ids]
        if name.startswith(SCALES) or given.dtype not in {torch.int64, torch.int32}:
            continue
        if weight.dtype == torch.int8:
            made = _coded(graph, node, ids, values)
        elif weight.dtype in _KINDS:
            made = _floats(node, ids, weight)
        elif weight.is_floating_point():
            made = f"its rows are {str(weight.dtype).removeprefix('torch.')}"
        else:
            continue  # whole numbers that are no codes: other IDs, or the numbers of scales
        if isinstance(made, str):
            left[name] = made
            continue
        key = (weight.data_ptr(), weight.shape, made.table.kind)
        found.append(replace(made, name=name, table=tables.setdefault(key, made.table)))
    return found, left


def _floats(node: Node, ids: Node, weight: Tensor) -> Rows | str:
    """Return the rows of a table of floats, widened where they are float16."""
    rows, operators = node, 1
    if weight.dtype == torch.float16:
        users = list(node.users)
        widened = users and all(
            each.target is aten.to.dtype and torch.float32 in (*each.args, *each.kwargs.values())
            for each in users
        )
        if not widened or len(users) != 1:
            return "its rows are not widened to float32 at once"
        rows, operators = users[0], 2
    table = HeldRows(_KINDS[weight.dtype], weight.detach())
    return Rows(rows, ids, "", table, (node,), operators, weight.shape[1])


def _coded(graph: FlatGraph, node: Node, ids: Node, values: Mapping[Node, Any]) -> Rows | str:
    """Return the rows that codes become, if they become what the stage made of them."""
    codes = graph.held(node.args[0])
    if codes is None:
        raise AssertionError("what is looked up is held")
    flat = values[ids].reshape(-1)
    for lookup in graph.nodes:
        levels = graph.held(lookup.args[0]) if ids_of(lookup) is ids else None
        if levels is None or levels.dtype != torch.uint8:
            continue
        scales = next(
            (x for each in _descendants(lookup) if (x := _scales(graph, each)) is not None), None
        )
        product = _product(graph, node, lookup)
        if scales is None or product is None:
            continue
        value = values[product]
        for bits in BITS.values():
            if codes.shape[1] != (value.shape[-1] * bits + 7) // 8:
                continue
            rows = Codes(codes[flat], levels[flat])
            if torch.equal(decode(rows, bits, scales, value.shape[-1]), value.flatten(0, -2)):
                inner = (_descendants(node) | _descendants(lookup)) & ancestors(product)
                return Rows(
                    product, ids, "", HeldRows(bits, codes, levels),
                    (node, lookup), len(inner) + 2, value.shape[-1],
                    scales[:, 0],
                )  # fmt: skip
    return "its codes have no scales beside them that this stage knows"


def _product(graph: FlatGraph, codes: Node, levels: Node) -> Node | None:
    """Return the first product of what two lookups become, apart until then."""
    one, other = _descendants(codes), _descendants(levels)
    for node in graph.nodes:
        if node.target is not aten.mul.Tensor:
            continue
        first, second = node.args
        if first in one and first not in other and second in other and second not in one:
            return node
    return None


def _scales(graph: FlatGraph, node: Node) -> Tensor | None:
    held = graph.held(node.args[0]) if ids_of(node) is not None else None
    return held if held is not None and held.dtype == torch.float32 else None


def _descendants(node: Node) -> set[Node]:
    """Return what depends on a node within a few steps: as far as a table's operators go."""
    found: set[Node] = set()
    edge = {node}
    for _ in range(_STEPS):
        edge = {user for each in edge for user in each.users} - found
        found |= edge
    return found


def ancestors(node: Node) -> set[Node]:
    """Return a node and all that it depends on."""
    found, edge = {node}, [node]
    while edge:
        for each in edge.pop().all_input_nodes:
            if each not in found:
                found.add(each)
                edge.append(each)
    return found
