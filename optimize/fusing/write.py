"""Lets the kernels compute what was found, in place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.fx.passes.tools_common import legalize_graph

from optimize.flat_graph import arguments, aten
from optimize.fusing.dots import FoundDots, find_dots
from optimize.fusing.features import Feature, find_features
from optimize.fusing.rows import ancestors
from optimize.kernels import operators
from optimize.kernels.lookup_dots import MOST_VALUES, Dots, power_of_2
from optimize.kernels.stacked_tables import KINDS, Reads, stack_rows
from optimize.lookups import place_rows, unfold_bags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph

# Fewer operators than these are not worth a kernel, and the operator that joins its IDs.
_LEAST = 3
_NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True)
class Fused:
    """What was done.

    Attributes:
        kernels: Of each launch, JSON-ready: its tables by name, the width of their rows, which
            widths these have, how many dots come out, and how many operators it stands for.
        left: Why lookups were left, by the table's name; and dots, by what multiplies.
    """

    kernels: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.kernels:
            said = "nothing fused"
        else:
            said = "; ".join(
                f"{len(each['tables'])} lookups of width {each['dimension']} "
                f"({', '.join(each['held'])})"
                + (f" and {each['dots']} dots" if each["dots"] else "")
                + f" in one kernel for {each['operators']} operators"
                for each in self.kernels
            )
        if not self.left:
            return said if self.kernels else f"{said}: the program looks nothing up"
        listed = [f"{name} ({why})" for name, why in sorted(self.left.items())]
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        return f"{said}; left: {', '.join(listed[:5])}{more}"


def fuse_lookups(graph: FlatGraph, *, users_once: bool) -> Fused:
    """Let one kernel compute the lookups of each width, and the dots that follow, in place.

    Args:
        graph: Of either layout.
        users_once: Whether users' IDs have rows of their own.
    """
    unfold_bags(graph)
    features, left = find_features(graph)
    fused = Fused(left=left)
    sides = graph.sides()
    values = graph.run(graph.sample(2))
    found, reasons = find_dots(graph, values)
    fused.left.update(reasons)
    for dots in found:
        mine = [each for each in features if each.node in dots.vectors]
        why = next(_unfit(dots, mine), "")
        if why:
            fused.left[f"dots of {dots.node.name}"] = why
            continue
        _write_dots(graph, dots, mine, fused)
        features = [each for each in features if each not in mine]
    groups: dict[Any, list[Feature]] = {}
    for each in features:
        own = users_once and sides[each.rows.ids] == "user"
        groups.setdefault((own, each.rows.dimension), []).append(each)
    for group in groups.values():
        _write_vectors(graph, _of_one_scale(group, fused), fused)
    if fused.kernels:
        legalize_graph(graph.module)
    graph.clean()
    return fused


def _unfit(dots: FoundDots, features: list[Feature]) -> Iterator[str]:
    """Say why the kernel cannot give some dots; nothing if it can."""
    if not features:
        yield "no vector of theirs is looked up in a table that can be fused"
        return
    if len(features) == len(dots.vectors):
        yield "all their vectors are looked up; the kernel takes one that is not"
    if len({*dots.vectors}) != len(dots.vectors):
        yield "a vector is there twice"
    read = [(each.node, dots.inner) for each in features]
    read += [(each, dots.inner | {dots.node}) for each in dots.inner]
    for node, known in read:
        if outside := {*node.users} - known:
            yield f"{outside.pop().name} reads a vector of theirs too"
    widths = {each.rows.dimension for each in features}
    held = power_of_2(max(widths)) * power_of_2(len(dots.vectors))
    if len(widths) > 1 or held > MOST_VALUES:
        yield f"{len(dots.vectors)} vectors of {max(widths)} are more than one program holds"
    if len(_scales_of(features)) > 1:
        yield "their tables have scales of several runs of quantize_tables"
    nodes = {each.node for each in features}
    before = [each for each in dots.vectors if each not in nodes]
    before += [each.rows.ids for each in features]
    if any(nodes & ancestors(each) for each in before):
        yield "a vector of theirs, or an ID, depends on another"


def _write_dots(graph: FlatGraph, dots: FoundDots, features: list[Feature], fused: Fused) -> None:
    nodes = {each.node for each in features}
    given = [each for each in dots.vectors if each not in nodes]
    ordered = [next(f for f in features if f.node is x) for x in dots.vectors if x in nodes]
    order = [*given, *(each.node for each in ordered)]
    vectors = len(order)
    placed = torch.tensor([order.index(each) for each in dots.vectors])
    pairs = placed[dots.pairs]
    natural = torch.tril_indices(vectors, vectors, offset=-1)
    places = torch.zeros(0, 0, dtype=torch.int32)
    if not torch.equal(pairs, natural):
        places = torch.full((vectors, vectors), -1, dtype=torch.int32)
        places[pairs[0], pairs[1]] = torch.arange(pairs.shape[1], dtype=torch.int32)
    replaced = _with_first(dots, given[0])
    first = replaced is not dots.node
    wanted = Dots(places, pairs.shape[1], first)
    call = graph.module.graph.call_function
    at = _last(graph, [*given, *(each.rows.ids for each in ordered)])
    tables = _constants(graph, ordered, at)
    where = graph.constant("fused_places", wanted.places, at)
    with graph.module.graph.inserting_before(at):
        beside = (
            call(aten.unsqueeze.default, (given[0], 1))
            if len(given) == 1
            else call(aten.stack.default, (given, 1))
        )
        ids = _joined_ids(graph, ordered)
        found = call(operators.lookup_dots, (*tables, ids, beside, where, wanted.count, first))
    replaced.replace_all_uses_with(found)
    _record(fused, ordered, dots=wanted.count, more=4 + first)


def _with_first(dots: FoundDots, first: Node) -> Node:
    """Return what puts a vector before the dots, if nothing else is done with them; or them."""
    (reader, *others) = dots.node.users
    if others or reader.target is not aten.cat.default:
        return dots.node
    joined = arguments(reader)
    fits = list(joined["tensors"]) == [first, dots.node] and joined["dim"] in {1, -1}
    return reader if fits else dots.node


def _write_vectors(graph: FlatGraph, features: list[Feature], fused: Fused) -> None:
    if sum(each.operators for each in features) < _LEAST:
        for each in features:
            fused.left[each.rows.name] = "too few operators to be worth a kernel"
        return
    nodes = {each.node for each in features}
    if any(nodes & ancestors(each.rows.ids) for each in features):
        for each in features:
            fused.left[each.rows.name] = "an ID of its group depends on a vector of it"
        return
    at = _last(graph, [each.rows.ids for each in features])
    tables = _constants(graph, features, at)
    with graph.module.graph.inserting_before(at):
        ids = _joined_ids(graph, features)
        found = graph.module.graph.call_function(operators.lookup_vectors, (*tables, ids))
    place_rows(graph, [each.node for each in features], found)
    _record(fused, features, dots=0, more=0)


def _record(fused: Fused, features: Sequence[Feature], *, dots: int, more: int) -> None:
    fused.kernels.append(
        {
            "tables": [each.rows.name for each in features],
            "longest": max(each.length for each in features),
            "dimension": features[0].rows.dimension,
            "held": sorted({_NAMES[each.rows.table.kind] for each in features}),
            "dots": dots,
            "operators": sum(each.operators for each in features) + more,
        }
    )


def _of_one_scale(features: list[Feature], fused: Fused) -> list[Feature]:
    """Return features whose codes have the same scales, and those of floats."""
    scales = _scales_of(features)
    kept = []
    for each in features:
        if each.rows.scales is None or each.rows.scales.data_ptr() == scales[0].data_ptr():
            kept.append(each)
        else:
            fused.left[each.rows.name] = "its scales are those of another run of quantize_tables"
    return kept


def _scales_of(features: Sequence[Feature]) -> list[torch.Tensor]:
    held = [each.rows.scales for each in features]
    return list({each.data_ptr(): each for each in held if each is not None}.values())


def _constants(graph: FlatGraph, features: Sequence[Feature], before: Node) -> tuple[Any, ...]:
    """Stack the tables, and return what the operators take of them."""
    scales = _scales_of(features)
    tables = stack_rows(
        [Reads(each.rows.table, each.length, each.empty) for each in features],
        features[0].rows.dimension,
        scales[0].detach() if scales else torch.zeros(0),
    )
    data, held, parts, layout, *rest = operators.arguments_of(tables)
    named = {"tables": data, "scales": held, "parts": parts, "layout": layout}
    nodes = [graph.constant(f"fused_{name}", each, before) for name, each in named.items()]
    return (*nodes, *rest)


def _joined_ids(graph: FlatGraph, features: Sequence[Feature]) -> Node:
    """Write what puts the IDs of all features side by side: int64 ``[rows, ΣL]``."""
    call = graph.module.graph.call_function
    ids = [
        each.rows.ids if each.long else call(aten.to.dtype, (each.rows.ids, torch.int64))
        for each in features
    ]
    single = [each.rows.node is each.node for each in features]
    if all(single):
        return call(aten.stack.default, (ids, 1))
    pieces = [
        call(aten.unsqueeze.default, (each, 1)) if alone else each
        for each, alone in zip(ids, single, strict=True)
    ]
    return call(aten.cat.default, (pieces, 1)) if len(pieces) > 1 else pieces[0]


def _last(graph: FlatGraph, needed: Sequence[Node]) -> Node:
    """Return the node after the last of those that are needed."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    return graph.nodes[max(order[each] for each in needed) + 1]
