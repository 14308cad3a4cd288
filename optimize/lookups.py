"""Lookups as every runtime does them fast: gathers, few of them, and no loops.

- ``nn.EmbeddingBag`` exports to ONNX as a loop over bags, which takes some 60 times as long as a
  gather, a mask and a sum, and which TensorRT refuses. Bags of a fixed length, padded or weighted,
  become just that.
- A ranker has dozens of tables, and each lookup is an operator to start. Tables of one width, read
  once each for single IDs of one side, become one table with offsets, and their lookups one gather.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import arguments, aten, dimension, export_module, flat_graph

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph
    from rankers.features import Signature

_BAGS = {aten.embedding_bag.padding_idx, aten.embedding_bag.default}
_SUM, _MEAN, _MAX = 0, 1, 2
# Rows of the sample that is traced: a number no shape in a ranker is likely to have by itself.
_TRACED_ROWS = 11
# Two gathers are not worth another sum and another stack.
_FEWEST_TABLES = 3
_STACKS = {aten.stack.default, aten.cat.default}


def rewrite_lookups(
    program: ExportedProgram, signature: Signature, *, join: bool
) -> tuple[ExportedProgram, list[str]]:
    """Rewrite a flat program's lookups.

    Args:
        program: From the signature's columns to scores.
        signature: The features.
        join: Whether tables of one width and side are read with one gather.

    Returns:
        The program, the one given if there is nothing to rewrite; and a line for each rewrite.
    """
    from optimize.samples import sample_tensors

    if not join and not any(node.target in _BAGS for node in program.graph.nodes):
        return program, []
    names = [each.name for each in signature.features]
    sample = sample_tensors(signature)
    graph = flat_graph(program, names, [each.name for each in signature.user], sample)
    done = unfold_bags(graph) + (join_tables(graph) if join else [])
    if not done:
        return program, []
    columns = sample(_TRACED_ROWS)
    return export_module(graph.module, columns, dict.fromkeys(names, "rows")), done


def unfold_bags(graph: FlatGraph) -> list[str]:
    """Make bags of a fixed length gathers, masks and sums, in place; return a line for each.

    Bags whose lengths are in the data stay as they are.
    """
    found = [node for node in graph.nodes if node.target in _BAGS]
    if not found:
        return []
    done = []
    values = graph.run(graph.sample(_SAMPLE))
    for node in found:
        given = arguments(node)
        length = _fixed_length(values[given["indices"]], values[given["offsets"]])
        used = [each for each in node.users if each.users]
        if not length or any(each.args[1] != 0 for each in used):
            continue
        with graph.module.graph.inserting_before(node):
            pooled = _pooled(graph, given, length, values[given["weight"]].dtype)
        for each in used:
            each.replace_all_uses_with(pooled)
        done.append(f"bags of {length} IDs: a gather and a sum in place of a loop")
    graph.clean()
    return done


_SAMPLE = 5


def _fixed_length(ids: Tensor, offsets: Tensor) -> int:
    """Return how many IDs each bag has, if all have as many; else 0."""
    if ids.dim() != 1 or not len(offsets) or len(ids) % len(offsets):
        return 0
    length = len(ids) // len(offsets)
    regular = torch.arange(len(offsets), device=offsets.device) * length
    return length if torch.equal(offsets.to(regular.dtype), regular) else 0


def _pooled(graph: FlatGraph, given: dict[str, Any], length: int, dtype: torch.dtype) -> Node:
    """Write the gather and what makes a bag of it; return ``[bags, D]``."""
    call = graph.module.graph.call_function
    table, ids, mode = given["weight"], given["indices"], given["mode"]
    weights, padding = given["per_sample_weights"], given.get("padding_idx")
    bags = call(aten.reshape.default, (ids, [-1, length]))  # [bags, L]
    rows = call(aten.embedding.default, (table, bags))  # [bags, L, D]
    if weights is not None:
        each = call(aten.reshape.default, (weights, [-1, length, 1]))
        rows = call(aten.mul.Tensor, (rows, each))
    if padding is None:
        if mode == _MAX:
            return call(aten.amax.default, (rows, [1]))
        total = call(aten.sum.dim_IntList, (rows, [1]))
        return call(aten.div.Tensor, (total, length)) if mode == _MEAN else total
    kept = call(aten.unsqueeze.default, (call(aten.ne.Scalar, (bags, padding)), 2))  # [bags, L, 1]
    if mode == _MAX:  # of an empty bag: 0
        lowest = torch.finfo(dtype).min
        absent = call(aten.logical_not.default, (kept,))
        highest = call(
            aten.amax.default, (call(aten.masked_fill.Scalar, (rows, absent, lowest)), [1])
        )
        empty = call(aten.logical_not.default, (call(aten.any.dim, (kept, 1)),))
        return call(aten.masked_fill.Scalar, (highest, empty, 0.0))
    mask = call(aten.to.dtype, (kept, dtype))
    total = call(aten.sum.dim_IntList, (call(aten.mul.Tensor, (rows, mask)), [1]))
    if mode == _SUM:
        return total
    count = call(aten.clamp.default, (call(aten.sum.dim_IntList, (mask, [1])), 1))
    return call(aten.div.Tensor, (total, count))


def join_tables(graph: FlatGraph) -> list[str]:
    """Read tables of one width and side with one gather, in place; return a line for each group."""
    done = []
    for (side, _, width), lookups in _single_lookups(graph).items():
        order = {node: number for number, node in enumerate(graph.nodes)}
        ids: list[Node] = [arguments(each)["indices"] for each in lookups]
        last = max(ids, key=order.__getitem__)
        # All IDs have to be known before the first of the rows is read.
        first_read = min(order[user] for each in lookups for user in each.users)
        if len(lookups) < _FEWEST_TABLES or order[last] > first_read:
            continue
        held = (graph.held(arguments(each)["weight"]) for each in lookups)
        tables = [each for each in held if each is not None]
        starts = torch.tensor([0, *(len(each) for each in tables)]).cumsum(0)[:-1]
        after = graph.nodes[order[last] + 1]
        joined = graph.constant(f"tables_of_{side}_{width}", torch.cat(tables), after)
        offsets = graph.constant(f"offsets_of_{side}_{width}", starts, after)
        with graph.module.graph.inserting_before(after):
            call = graph.module.graph.call_function
            places = call(aten.add.Tensor, (call(aten.stack.default, (ids, 1)), offsets))
            rows = call(aten.embedding.default, (joined, places))  # [rows, tables, D]
        place_rows(graph, lookups, rows)
        done.append(f"{len(lookups)} tables of the {side} read with one gather")
    graph.clean()
    return done


def _single_lookups(graph: FlatGraph) -> dict[tuple[str, torch.dtype, int], list[Node]]:
    """Return lookups of single IDs in tables that nothing else reads, by side, dtype and width."""
    sides, shapes = graph.sides(), graph.shapes()
    values = graph.run(graph.sample(2))
    found: dict[tuple[str, torch.dtype, int], list[Node]] = {}
    for node in graph.nodes:
        if node.target is not aten.embedding.default:
            continue
        given = arguments(node)
        table, ids = graph.held(given["weight"]), given["indices"]
        single = shapes.get(ids) == (-1,) and values[ids].dtype == torch.int64
        if table is not None and single and len(given["weight"].users) == 1:
            found.setdefault((sides[node], table.dtype, table.shape[1]), []).append(node)
    return found


def place_rows(graph: FlatGraph, lookups: list[Node], rows: Node) -> None:
    """Give every reader its lookup's rows; one that stacks neighbours takes them as they lie.

    Args:
        graph: Is changed in place.
        lookups: What gave ``[rows, D]`` each.
        rows: What gives all of them in that order, ``[rows, lookups, D]``.
    """
    place = {node: number for number, node in enumerate(lookups)}
    shapes = graph.shapes()
    call = graph.module.graph.call_function
    for reader in graph.nodes:
        if reader.target not in _STACKS or not any(
            each in place for each in reader.all_input_nodes
        ):
            continue
        rank = len(shapes.get(reader, ()))
        stacks = reader.target is aten.stack.default
        if dimension(arguments(reader)["dim"], rank) != 1 or rank != (3 if stacks else 2):
            continue
        with graph.module.graph.inserting_before(reader):
            pieces = []
            for part in _runs(arguments(reader)["tensors"], place):
                if isinstance(part, range):
                    piece = call(aten.slice.Tensor, (rows, 1, part.start, part.stop))
                    pieces.append(piece if stacks else call(aten.flatten.using_ints, (piece, 1, 2)))
                else:
                    pieces.append(call(aten.unsqueeze.default, (part, 1)) if stacks else part)
            whole = pieces[0] if len(pieces) == 1 else call(aten.cat.default, (pieces, 1))
        reader.replace_all_uses_with(whole)
    with graph.module.graph.inserting_after(rows):
        for node in lookups:
            node.replace_all_uses_with(call(aten.select.int, (rows, 1, place[node])))


def _runs(parts: list[Node], place: dict[Node, int]) -> list[Node | range]:
    """Return the parts, with neighbours in the joined table as ranges of their places."""
    found: list[Node | range] = []
    for part in parts:
        number = place.get(part)
        if number is None:
            found.append(part)
        elif found and isinstance(found[-1], range) and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found
