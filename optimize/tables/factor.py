"""Tables as the product of smaller ones, in a graph.

::

    low rank         IDs ──► A[IDs] ──► (sum of the bag) ──► · B ──► rows
    quotients and    IDs ──┬─► Q[IDs // m] ─┐
    remainders             └─► R[IDs % m] ──┴─ product ──► rows; those of padding as they were

A product by B is linear, so it comes after the sum of a bag, and costs once for a bag.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from optimize.flat_graph import aten
from optimize.tables.bags import end_of_bag
from optimize.tables.budget import Form, allocate, least_bytes
from optimize.tables.codes import row_errors
from optimize.tables.factors import (
    combined,
    directions_of,
    quotient_remainder,
    remainder_counts,
    second_moment,
)
from optimize.tables.program import lookup_ids
from optimize.tables.report import TableReport
from optimize.tables.traffic import padding_rows
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape
    from optimize.tables.program import Table
    from optimize.tables.reads import TableReads
    from rankers.features import Signature

Method = Literal["low_rank", "quotient_remainder"]
_AS_IT_IS = "kept by the budget"
# So many rows of zeros that no one says are padding are kept as exactly.
_FEW_ZEROS = 4
_SAID = ("rank", "remainders", "score_error", "read_error")


@dataclass(frozen=True)
class Factored:
    """What became of a table.

    Attributes:
        report: As of any table.
        rank: Of low_rank; else 0.
        remainders: Of quotient_remainder; else 0.
        score_error: Root of the mean square by which scores move for it, estimated before
            fine-tuning; a logit's move counts by the root of p (1 - p), so that half of the square
            is the divergence.
        read_error: ``|new - old| / |old|`` of rows as they are read, by root mean squares.
        learns: Names of the parameters that fine-tuning may change.
    """

    report: TableReport
    rank: int = 0
    remainders: int = 0
    score_error: float = 0.0
    read_error: float = 0.0
    learns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        said = self.report.to_json()
        return said | {x: getattr(self, x) for x in _SAID}


def factor_tables(
    graph: FlatGraph,
    tables: Sequence[Table],
    reads: Mapping[str, TableReads],
    left: Mapping[str, str],
    *,
    method: Method,
    share: float,
    signature: Signature,
) -> list[Factored]:
    """Make tables products of smaller ones, in place.

    Args:
        graph: Of either layout.
        tables: All of its tables.
        reads: Of those that may change, by name.
        left: Why others are left alone, by name.
        method: How.
        share: Of the bytes of those that may change, what they may take at most together.
        signature: Says which IDs are padding.

    Returns:
        A line for each table.

    Raises:
        UserError: The share cannot be reached; the message says what can.
    """
    free = [each for each in tables if each.name not in left]
    exact: dict[str, Tensor] = {}
    if method == "quotient_remainder":
        exact = {x.name: _exact_rows(graph, x, signature) for x in free}
        reads = {x.name: _without(reads[x.name], exact[x.name]) for x in free}
    forms = {x.name: _forms(x, reads[x.name], method, len(exact.get(x.name, ()))) for x in free}
    before = sum(each.bytes for each in free)
    if least_bytes(forms) > share * before:
        raise UserError(
            f"factor_tables: share is {share:g} of the tables' bytes; no less than "
            f"{least_bytes(forms) / before:.3f} can be reached with method = {method!r}"
        )
    chosen = allocate(forms, share * before) if free else {}
    shapes = graph.shapes() if method == "low_rank" else {}
    found = []
    for table in tables:
        form = chosen.get(table.name)
        if form is None or not form.size:
            reason = left.get(table.name, _AS_IT_IS)
            found.append(Factored(TableReport.kept(table, reason)))
        elif method == "low_rank":
            found.append(_narrow(graph, table, reads[table.name], form, shapes))
        else:
            found.append(_compose(graph, table, reads[table.name], form, exact[table.name]))
    graph.clean()
    return found


def _exact_rows(graph: FlatGraph, table: Table, signature: Signature) -> Tensor:
    """Return the rows that have to stay exactly what they are: of padding, and zeros if few."""
    zeros = (table.weight == 0).all(dim=1).nonzero().reshape(-1)
    kept = padding_rows(graph, table, signature)
    return torch.unique(torch.cat([kept, zeros])) if len(zeros) <= _FEW_ZEROS else kept


def _without(reads: TableReads, rows: Tensor) -> TableReads:
    """Return reads of a table with none of some of its rows."""
    share = reads.share.clone()
    share[rows] = 0
    return replace(reads, share=share / share.sum() if bool(share.any()) else reads.share)


def _forms(table: Table, reads: TableReads, method: Method, exact: int) -> list[Form]:
    """Return what a table may become, itself first."""
    rows, width = table.weight.shape
    value = table.weight.element_size()
    found = [Form(table.bytes, 0.0, 0)]
    if method == "low_rank":
        errors = directions_of(table.weight, reads).errors.tolist()
        ranks = ((k, value * k * (rows + width), errors[k]) for k in range(1, width))
        return found + [Form(size, error, k) for k, size, error in ranks if size < table.bytes]
    for count in remainder_counts(rows):
        size = value * width * (-(-rows // count) + count + exact)
        if size < table.bytes:
            parts = quotient_remainder(table.weight, reads.share, count)
            errors_of = combined(*parts, rows) - table.weight
            error = reads.score_error(second_moment(errors_of, reads.share))
            found.append(Form(size, error, count))
    return found


def _narrow(
    graph: FlatGraph, table: Table, reads: TableReads, form: Form, shapes: Mapping[Node, Shape]
) -> Factored:
    """Let a table's lookups read fewer columns, and multiply them out after bags."""
    rows, basis = directions_of(table.weight, reads).factors(table.weight, form.size)
    name = _name(table)
    source = graph.constant(f"{name}_low_rank", rows, table.lookups[0])
    weight = _parameter(graph, f"{name}_basis", basis.T)  # [D, k], as a layer holds it
    call = graph.module.graph.call_function
    for node in table.lookups:
        end = end_of_bag(node, shapes)
        with graph.module.graph.inserting_before(node):
            narrow = call(aten.embedding.default, (source, lookup_ids(node)))
        node.replace_all_uses_with(narrow)
        graph.module.graph.erase_node(node)
        last = narrow if end is node else end
        with graph.module.graph.inserting_after(last):
            held = graph.module.graph.get_attr(weight)
        with graph.module.graph.inserting_after(held):
            wide = call(aten.linear.default, (last, held))
        for user in [each for each in last.users if each is not wide]:
            user.replace_input_with(last, wide)
    made = _factored(table, rows @ basis, reads, form, rows.element_size() * form.size)
    return replace(made, rank=form.size, learns=(weight,))


def _compose(
    graph: FlatGraph, table: Table, reads: TableReads, form: Form, exact: Tensor
) -> Factored:
    """Let a table's lookups put rows together from quotients and remainders."""
    left, right = quotient_remainder(table.weight, reads.share, form.size)
    name, before = _name(table), table.lookups[0]
    names = tuple(
        _parameter(graph, f"{name}_{kind}", each)
        for kind, each in (("quotients", left), ("remainders", right))
    )
    held = [
        graph.constant(f"{name}_row_{x}", table.weight[x].clone(), before) for x in exact.tolist()
    ]
    call, read = graph.module.graph.call_function, graph.module.graph.get_attr
    for node in table.lookups:
        with graph.module.graph.inserting_before(node):
            ids = lookup_ids(node)
            # Not div.Tensor_mode, which goes to ONNX through float32: wrong above 2^24.
            quotient = call(aten.floor_divide.default, (ids, form.size))
            remainder = call(aten.remainder.Scalar, (ids, form.size))
            parts = [
                call(aten.embedding.default, (read(each), at))
                for each, at in zip(names, (quotient, remainder), strict=True)
            ]
            rows = call(aten.mul.Tensor, tuple(parts))
            for place, row in zip(exact.tolist(), held, strict=True):
                here = call(aten.unsqueeze.default, (call(aten.eq.Scalar, (ids, place)), -1))
                rows = call(aten.where.self, (here, row, rows))
        node.replace_all_uses_with(rows)
        graph.module.graph.erase_node(node)
    now = combined(left, right, len(table.weight))
    now[exact] = table.weight[exact]
    made = _factored(table, now, reads, form, 2 * left[0].nbytes)
    return replace(made, remainders=form.size, learns=names)


def _factored(
    table: Table, now: Tensor, reads: TableReads, form: Form, lookup_bytes: int
) -> Factored:
    """Say what became of a table whose rows are now others."""
    width = str(table.weight.dtype).removeprefix("torch.")
    report = TableReport.changed(table, width, form.bytes, row_errors(table.weight, now))
    lost, whole = (
        float(second_moment(x, reads.share).trace()) for x in (now - table.weight, table.weight)
    )
    return Factored(
        replace(report, lookup_bytes_after=lookup_bytes),
        score_error=form.error**0.5,
        read_error=(lost / whole) ** 0.5 if whole else 0.0,
    )


def _parameter(graph: FlatGraph, name: str, value: Tensor) -> str:
    """Give the module a parameter; return its name."""
    free, number = name, 1
    while hasattr(graph.module, free):
        number += 1
        free = f"{name}_{number}"
    held = torch.nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format))
    graph.module.register_parameter(free, held)
    return free


def _name(table: Table) -> str:
    return "table_" + "".join(x if x.isalnum() else "_" for x in table.name)
