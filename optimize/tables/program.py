"""The tables of a program, and who reads them.

A table is a matrix of floats whose rows are looked up by IDs. One that anything else reads too (a
layer that is tied to it, say) cannot change its form, so it is told apart.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import FlatGraph, arguments, aten, export_module, flat_graph
from optimize.lookups import unfold_bags
from optimize.option_values import names_in
from optimize.samples import sample_requests
from optimize.tables.counts import frequent_requests
from rankers.errors import UserError
from rankers.requests import ITEM_TO_REQUEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    from optimize.artifact import Artifact, Manifest
    from rankers.requests import Array

# Two sizes of the sample that is traced, which no shape in a ranker is likely to have by itself.
_SAMPLE_REQUESTS, _SAMPLE_ROWS = 3, 11
# Rows of the sample in which lookups are told from what else reads a matrix.
_LOOKED_AT = 16
# The constant that holds the scales of tables in few bits: no table itself.
SCALES = "table_scales"
# What exporting puts before the names that a module has.
_WRAPPERS = ("rewritten.", "ranker.")


@dataclass(frozen=True, eq=False)
class Table:
    """A matrix whose rows are looked up.

    Attributes:
        name: As the module calls it.
        weight: ``[rows, D]``, of floats.
        lookups: The nodes that read rows of it: ``[…, D]`` for IDs ``[…]`` each.
        sources: The nodes that hold it.
        tied: What else reads it, by its operator; empty if nothing does.
    """

    name: str
    weight: Tensor
    lookups: tuple[Node, ...]
    sources: tuple[Node, ...]
    tied: str

    @property
    def bytes(self) -> int:
        """Of all its rows."""
        return self.weight.nbytes


def open_tables(
    artifact: Artifact, counts: Mapping[str, Array] | None = None
) -> tuple[FlatGraph, list[Table]]:
    """Open a torch artifact of either layout, and find its tables; bags become lookups first.

    The graph's ``sample`` gives as many users as candidates, so that it can be run and scored like
    a flat one.

    Args:
        artifact: Of the format ``torch``.
        counts: How often training met each ID, by feature: the sample has IDs as often.

    Raises:
        UserError: The artifact's program cannot be read.
    """
    graph = open_program(artifact, counts)
    unfold_bags(graph)
    return graph, find_tables(graph)


def open_program(artifact: Artifact, counts: Mapping[str, Array] | None = None) -> FlatGraph:
    """Open a torch artifact of either layout for rewriting; see `open_tables`."""
    from optimize.torch_program import load_program

    manifest = artifact.manifest
    names = manifest.inputs
    program = load_program(artifact.model_path)

    def sample(rows: int) -> Mapping[str, Tensor]:
        drawn = frequent_requests(manifest.signature, rows, counts or {})
        columns = manifest.columns_of(drawn)
        return {name: torch.from_numpy(columns[name]) for name in names}

    return flat_graph(program, names, [each.name for each in manifest.signature.user], sample)


def open_graph(program: ExportedProgram, manifest: Manifest) -> FlatGraph:
    """Open a program of either layout; its sample has as many users as candidates."""

    def sample(rows: int) -> Mapping[str, Tensor]:
        columns = manifest.columns_of(sample_requests(manifest.signature, [1] * rows))
        return {name: torch.from_numpy(columns[name]) for name in manifest.inputs}

    users = [each.name for each in manifest.signature.user]
    return flat_graph(program, manifest.inputs, users, sample)


def find_tables(graph: FlatGraph) -> list[Table]:
    """Return the tables of a graph in the order in which they are first read."""
    values = _values_of_ids(graph)
    found: dict[tuple[int, torch.Size, torch.Size | tuple[int, ...]], list[Node]] = {}
    for node in graph.module.graph.find_nodes(op="get_attr"):
        weight = graph.held(node)
        if weight is None or weight.dim() != 2 or not weight.is_floating_point():
            continue
        if short_name(str(node.target)).startswith(SCALES):
            continue
        if any(is_lookup(user, node, values) for user in node.users):
            found.setdefault((weight.data_ptr(), weight.shape, weight.stride()), []).append(node)
    tables = []
    for sources in found.values():
        weight = graph.held(sources[0])
        users = [user for source in sources for user in source.users]
        reads = {
            user for source in sources for user in source.users if is_lookup(user, source, values)
        }
        others = [user for user in users if user not in reads]
        if weight is None:
            raise AssertionError("what is held was found by being held")
        tables.append(
            Table(
                name=short_name(str(sources[0].target)),
                weight=weight.detach(),
                lookups=tuple(each for each in graph.nodes if each in reads),
                sources=tuple(sources),
                tied=str(others[0].target) if others else "",
            )
        )
    order = {node: place for place, node in enumerate(graph.nodes)}
    return sorted(tables, key=lambda each: order[each.lookups[0]])


def _values_of_ids(graph: FlatGraph) -> dict[Node, Any]:
    """Return what IDs lookups have in a sample; of all else nothing, which may be large."""
    wanted = {ids for each in graph.nodes if (ids := ids_of(each)) is not None}
    found: dict[Node, Any] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in wanted:
                found[n] = value
            return value

    columns = graph.sample(_LOOKED_AT)
    with torch.no_grad():
        Recorder(graph.module).run(*(columns[name] for name in graph.names))
    return found


def is_lookup(node: Node, source: Node, values: Mapping[Node, Any]) -> bool:
    """Whether a node reads rows of ``source`` by whole numbers, and nothing else of it."""
    ids = ids_of(node)
    if ids is None or node.args[0] is not source or ids is source:
        return False
    found = values.get(ids)
    if not isinstance(found, torch.Tensor) or found.dtype not in {torch.int64, torch.int32}:
        return False
    return bool((found >= 0).all())  # of an index, negative numbers count from the end


def ids_of(node: Node) -> Node | None:
    """Return the IDs that a node looks rows up by, if it is of a kind that does."""
    given = arguments(node)
    ids: Any = None
    if node.target is aten.embedding.default:
        ids = given["indices"]
    elif node.target is aten.index.Tensor and len(given["indices"]) == 1:
        ids = given["indices"][0]
    elif node.target is aten.index_select.default and given["dim"] == 0:
        ids = given["index"]
    return ids if isinstance(ids, torch.fx.Node) else None


def lookup_ids(lookup: Node) -> Node:
    """Return the IDs of one of a table's lookups."""
    ids = ids_of(lookup)
    if ids is None:
        raise AssertionError(f"{lookup} looks nothing up")
    return ids


def chosen_tables(tables: list[Table], patterns: str, min_rows: int) -> dict[str, str]:
    """Say of each table that is left alone why, by its name.

    Args:
        tables: All there are.
        patterns: Of the names of those to change, as in a shell; separated by commas.
        min_rows: Tables of fewer rows are left alone.

    Raises:
        UserError: A pattern fits no table.
    """
    wanted = names_in(patterns)
    names = [each.name for each in tables]
    for each in wanted:
        if tables and not fnmatch.filter(names, each):
            listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise UserError(f"no table is called {each!r}; there are {listed}")
    left = {}
    for table in tables:
        if not any(fnmatch.fnmatchcase(table.name, each) for each in wanted):
            left[table.name] = "not asked for"
        elif table.tied:
            left[table.name] = f"read by {table.tied} too"
        elif len(table.weight) < min_rows:
            left[table.name] = f"fewer than {min_rows} rows"
        elif not bool(torch.isfinite(table.weight).all()):
            left[table.name] = "holds values that are not finite"
    return left


def program_of(graph: FlatGraph, manifest: Manifest) -> ExportedProgram:
    """Make a graph that was changed a program again, of the layout that it had.

    Raises:
        UserError: It cannot be exported.
    """
    graph.clean()
    rows = dict.fromkeys(graph.names, "rows")
    if manifest.layout == "flat":
        return export_module(graph.module, graph.sample(_SAMPLE_ROWS), rows)
    users, items = graph.sample(_SAMPLE_REQUESTS), graph.sample(_SAMPLE_ROWS)
    columns = {name: (users if name in graph.user else items)[name] for name in graph.names}
    columns[ITEM_TO_REQUEST] = torch.arange(_SAMPLE_ROWS) * _SAMPLE_REQUESTS // _SAMPLE_ROWS
    return export_module(graph.module, columns, rows | dict.fromkeys(graph.user, "requests"))


def short_name(name: str) -> str:
    """Return what the module calls what a graph holds, without what exporting put before it."""
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name.removesuffix(".weight")
