"""A flat program as a graph to rewrite: whose each value is, and where its rows are.

The program comes from ``torch.export`` and scores flat rows, one for each (user, candidate) pair.
Rewrites change the graph in place and leave what it computes as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.fx import Node

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

# ``none``: parameters, constants and sizes, which are neither's.
Side = Literal["none", "user", "item", "both"]
# A value's shape over any number of rows: n > 0 is a size of its own, -k stands for k times the
# rows. (-1, 100, 64) is [rows, 100, 64]; (-100, 64) has rows and places of a history merged.
Shape = tuple[int, ...]

# Two numbers of rows that no shape of a ranker is likely to have: what differs between a run with
# one and a run with the other are the rows.
_ROWS = (11, 13)

aten = torch.ops.aten
# They read a number of rows, and nothing of what is in them.
SIZES = {aten.sym_size.int, aten.sym_numel.default}


@dataclass(frozen=True)
class FlatGraph:
    """A graph over flat columns.

    Attributes:
        module: Runs it; its placeholders are the columns in order.
        names: The features' names in that order.
        user: Those of the user's side.
        sample: Gives valid columns of any number of rows, ``[rows, …]`` by name.
    """

    module: GraphModule
    names: tuple[str, ...]
    user: frozenset[str]
    sample: Callable[[int], Mapping[str, Tensor]]

    @property
    def nodes(self) -> list[Node]:
        """All nodes, each after those that it reads."""
        return list(self.module.graph.nodes)

    @property
    def placeholders(self) -> dict[str, Node]:
        """The node of each column."""
        found = self.module.graph.find_nodes(op="placeholder")
        return dict(zip(self.names, found, strict=True))

    def sides(self) -> dict[Node, Side]:
        """Whose features each value depends on. How many rows there are is nobody's."""
        own: dict[Node, Side] = {
            node: "user" if name in self.user else "item"
            for name, node in self.placeholders.items()
        }
        found: dict[Node, Side] = {}
        for node in self.nodes:
            if node in own:
                found[node] = own[node]
            elif node.target in SIZES:
                found[node] = "none"
            else:
                found[node] = joined(found[each] for each in node.all_input_nodes)
        return found

    def run(self, columns: Mapping[str, Tensor]) -> dict[Node, Any]:
        """Return every node's value for some rows."""
        values: dict[Node, Any] = {}

        class Recorder(torch.fx.Interpreter):
            def run_node(self, n: Node) -> Any:
                values[n] = super().run_node(n)
                return values[n]

        with torch.no_grad():
            Recorder(self.module).run(*(columns[name] for name in self.names))
        return values

    def score(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of some rows, ``[rows]``."""
        with torch.no_grad():
            found: Any = self.module(*(columns[name] for name in self.names))
        scores: Tensor = found[0] if isinstance(found, tuple | list) else found
        return scores

    def shapes(self) -> dict[Node, Shape]:
        """The shapes of tensors, and the values of sizes as one-element shapes, by experiment.

        A node is left out whose sizes are neither fixed nor whole multiples of the rows.
        """
        first, second = (self.run(self.sample(rows)) for rows in _ROWS)
        found = {}
        for node, value in first.items():
            if isinstance(value, torch.Tensor):
                shape = _shape(tuple(value.shape), tuple(second[node].shape))
            elif isinstance(value, int) and not isinstance(value, bool):
                shape = _shape((value,), (second[node],))
            else:
                continue
            if shape is not None:
                found[node] = shape
        return found

    def constant(self, name: str, value: Tensor, before: Node) -> Node:
        """Give the module a constant and return the node that reads it, put before another."""
        free, number = name, 1
        while hasattr(self.module, free):
            number += 1
            free = f"{name}_{number}"
        self.module.register_buffer(free, value.detach().contiguous())
        with self.module.graph.inserting_before(before):
            return self.module.graph.get_attr(free)

    def held(self, node: Any) -> Tensor | None:
        """Return the parameter or constant that a node reads; None if it computes something."""
        if not isinstance(node, Node) or node.op != "get_attr":
            return None
        value: Any = self.module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value if isinstance(value, torch.Tensor) else None

    def clean(self) -> None:
        """Forget what nothing reads any more, weights too."""
        self.module.graph.eliminate_dead_code(is_impure_node=_is_impure)
        self.module.delete_all_unused_submodules()
        _forget_unread(self.module)
        self.module.graph.lint()
        self.module.recompile()


def arguments(node: Node) -> dict[str, Any]:
    """Return a node's arguments by the names that its operator gives them, defaults included.

    Of what is no operator of torch's own, nothing.
    """
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    given = dict(zip((each.name for each in schema.arguments), node.args, strict=False))
    defaults = {each.name: each.default_value for each in schema.arguments}
    return defaults | given | node.kwargs


def stand_in(node: Node, value: Node, *facts: dict[Node, Any]) -> None:
    """Let all that reads a node read a value in its place.

    Args:
        node: What was rewritten.
        value: What computes the same.
        facts: What is known by node, such as shapes and sides: of the value it is known then, too,
            so that what reads it can be rewritten next.
    """
    node.replace_all_uses_with(value)
    for known in facts:
        if node in known:
            known.setdefault(value, known[node])


def dimension(value: int, rank: int) -> int:
    """Return a dimension counted from the front."""
    return value % rank if rank else 0


def flat_graph(
    program: ExportedProgram,
    names: Sequence[str],
    user: Sequence[str],
    sample: Callable[[int], Mapping[str, Tensor]],
) -> FlatGraph:
    """Open a program for rewriting; the program itself stays as it is.

    Args:
        program: From columns by position, ``[rows, …]`` each, to scores ``[rows]``.
        names: Of the columns.
        user: Those of the user's side.
        sample: See `FlatGraph`.

    Raises:
        UserError: The program's columns are not as many as the names.
    """
    if any(_writes(node) for node in program.graph.nodes):
        program = program.run_decompositions({})  # makes writes in place values of their own
    module = program.module(check_guards=False)
    if len(module.graph.find_nodes(op="placeholder")) != len(names):
        raise UserError(f"the program does not take the {len(names)} columns {', '.join(names)}")
    # Called with columns by position, and answering with a plain value, like any module.
    module.graph.set_codegen(torch.fx.graph.CodeGen())
    graph = FlatGraph(module, tuple(names), frozenset(user), sample)
    graph.clean()
    return graph


def export_module(
    module: torch.nn.Module, columns: Mapping[str, Tensor], rows: Mapping[str, str]
) -> ExportedProgram:
    """Make a rewritten module a program again.

    Args:
        module: From columns by position to one value in a tuple, as graphs answer.
        columns: A sample, in order.
        rows: For each column, the name of its number of rows, which is free from 1 up.

    Raises:
        UserError: It cannot be exported; the message says where and why.
    """
    from torch.export import Dim, export

    dimensions = {name: Dim(name, min=1) for name in set(rows.values())}
    shapes = tuple({0: dimensions[rows[name]]} for name in columns)
    try:
        with torch.no_grad():
            return export(_Positional(module), tuple(columns.values()), dynamic_shapes=(shapes,))
    except Exception as error:  # torch.export raises many kinds, few of them its own
        from optimize.export_errors import explain_export_error

        raise UserError(
            f"the rewritten program cannot be exported: {explain_export_error(error)}"
        ) from error


class _Positional(torch.nn.Module):
    """Gives the one value of a graph's answer, a tuple."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.rewritten = module

    def forward(self, *columns: Tensor) -> Tensor:
        (scores,) = self.rewritten(*columns)
        result: Tensor = scores
        return result


def joined(sides: Any) -> Side:
    """Return whose a value is that depends on values of the given sides."""
    found = set(sides) - {"none"}
    if not found:
        return "none"
    if len(found) > 1:
        return "both"
    side: Side = found.pop()
    return side


def _shape(one: tuple[int, ...], other: tuple[int, ...]) -> Shape | None:
    if len(one) != len(other):
        return None
    shape = []
    for first, second in zip(one, other, strict=True):
        if first == second:
            shape.append(first)
            continue
        times, rest = divmod(first, _ROWS[0])
        if rest or times * _ROWS[1] != second:
            return None
        shape.append(-times)
    return tuple(shape)


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _is_impure(node: Node) -> bool:
    """Checks of what tracing already made sure of can go; inputs and the output stay."""
    return node.op in {"placeholder", "output"}


def _forget_unread(module: GraphModule) -> None:
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    held = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
    for name in held:
        if name not in read:
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)
