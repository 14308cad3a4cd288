"""The exported program as a diagnosis reads it: its operators run one by one, and their places."""

from __future__ import annotations

import io
import linecache
import logging
import re
import warnings
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.diagnosis.finding import Finding, Place
from optimize.export import ROOT, export_ranker, own_functions
from optimize.unpack import parts_read
from rankers.errors import LIBRARIES, NUMERIC, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    from rankers.ranker import Ranker
    from rankers.requests import Columns

    # Runs one node: gets the node, its arguments and the way to run it; returns its value.
    RunNode = Callable[[Node, tuple[Any, ...], dict[str, Any], Callable[..., Any]], Any]

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_LARGE_BUFFER_BYTES = 64 * 2**20
_HERE = Path(__file__).parents[1]
_OURS = {_HERE, _HERE.with_name("rankers") / "adapters"}


@dataclass(frozen=True)
class Trace:
    """A ranker's module as a graph of operators.

    Attributes:
        program: From columns in the signature's order to scores.
        names: The features' names in that order.
        any_rows: Whether it takes any number of rows, or only `optimize.export.SAMPLE_ROWS`.
    """

    program: ExportedProgram
    names: tuple[str, ...]
    any_rows: bool

    @property
    def nodes(self) -> list[Node]:
        """All nodes, each after those that it reads."""
        return list(self.program.graph.nodes)

    @property
    def operators(self) -> list[Node]:
        """The nodes that compute something."""
        return [node for node in self.nodes if node.op == "call_function"]

    @property
    def score(self) -> Node:
        """The node whose value is the scores."""
        wanted = self.program.graph_signature.user_outputs[0]
        return next(node for node in self.nodes if node.name == wanted)

    @property
    def inputs(self) -> dict[Node, str]:
        """The feature that each input node holds."""
        wanted = dict(zip(self.program.graph_signature.user_inputs, self.names, strict=True))
        return {node: wanted[node.name] for node in self.nodes if node.name in wanted}

    @property
    def weights(self) -> dict[Node, str]:
        """The parameter or buffer that each of the other placeholders holds, by its name."""
        signature = self.program.graph_signature
        held = dict(signature.inputs_to_parameters) | dict(signature.inputs_to_buffers)
        return {
            node: held[node.name].removeprefix(f"{ROOT}.")
            for node in self.nodes
            if node.name in held
        }

    def run(self, columns: Columns, run_node: RunNode | None = None) -> dict[Node, Any]:
        """Score rows with the graph.

        Args:
            columns: Every feature, ``[rows, …]``.
            run_node: Called for each operator in place of just running it; nothing is kept then.

        Returns:
            Each node's value: a tensor, a number, or several in a tuple or list. Those of
            operators are copies, so that a later write in place leaves them as they were.
        """
        import torch

        given = {name: torch.from_numpy(np.array(columns[name])) for name in self.names}
        values: dict[Node, Any] = {}

        class Recorder(torch.fx.Interpreter):
            def run_node(self, n: Node) -> Any:
                if n.op == "call_function" and run_node is not None:
                    args, kwargs = self.fetch_args_kwargs_from_env(n)
                    return run_node(n, args, kwargs, n.target)  # type: ignore[arg-type]
                value = super().run_node(n)
                if run_node is None:
                    values[n] = copy(value) if n.op == "call_function" else value
                return value

        with torch.no_grad():
            recorder = Recorder(self.program.graph_module)
            recorder.run(*self._arguments(given), enable_io_processing=False)
        return values

    def _arguments(self, given: dict[str, Tensor]) -> list[Any]:
        """Return what the graph's placeholders take: weights, constants, then the columns."""
        from torch.export.graph_signature import InputKind

        columns = iter(given.values())
        arguments: list[Any] = []
        for spec in self.program.graph_signature.input_specs:
            if spec.kind == InputKind.USER_INPUT:
                arguments.append(next(columns))
                continue
            target = spec.target or ""
            held: Any = self.program.state_dict.get(target)
            held = self.program.constants.get(target) if held is None else held
            # The graph may write into buffers: a run must not change the next. Large ones are
            # tables, which are read only.
            state = spec.kind == InputKind.BUFFER and held.nbytes < _LARGE_BUFFER_BYTES
            arguments.append(held.clone() if state else held)
        return arguments


def trace_ranker(ranker: Ranker) -> tuple[Trace | None, tuple[Finding, ...]]:
    """Export a ranker's module; if that fails, at least for a fixed number of rows.

    Returns:
        The trace, or None if the module cannot be traced at all; and what stood in the way.
    """
    names = tuple(feature.name for feature in ranker.signature.features)
    _keep_lines_of(ranker)
    try:
        with quiet():
            return Trace(export_ranker(ranker), names, any_rows=True), ()
    except UserError as error:
        reason = str(error).partition("cannot be exported: ")[2] or str(error)
        found = Finding(
            "cannot-export",
            reason,
            "mend what is named; the rest of this diagnosis tells what it could without it",
        )
    try:
        with quiet():
            return Trace(export_ranker(ranker, any_rows=False), names, any_rows=False), (found,)
    except UserError:
        return None, (found,)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's own warnings and dumps of graphs off the terminal: a finding says it shorter."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _keep_lines_of(ranker: Ranker) -> None:
    """Have torch keep the lines of all methods of the ranker's own, not of forward alone.

    Without it, what a method of another name does is told at the line that calls it.
    """
    from torch.fx import proxy

    keep = getattr(proxy, "_register_stack_trace_anchor", None)  # not in every version
    if keep is not None:
        for function in own_functions(ranker.module):
            keep(function)


def place_of(node: Node) -> Place:
    """Return where in the user's module a node comes from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    path = "" if path == ROOT else path.removeprefix(f"{ROOT}.")
    return Place(path, operator_name(node), _source(node.meta.get("stack_trace") or ""))


def operator_name(node: Node) -> str:
    """Return an operator's name without its overload, such as ``aten.softmax``."""
    target = node.target
    packet = getattr(target, "overloadpacket", None)
    return str(packet or getattr(target, "__name__", target))


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a node's value or in its arguments, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in tensors(each)]
    return []


def copy(value: Any) -> Any:
    """Return a node's value with its own memory."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, list | tuple):
        return [copy(each) for each in value]
    return value


def features_of(trace: Trace) -> dict[Node, frozenset[str]]:
    """Return for each node the features that its value depends on.

    A shape is no dependence: how many rows there are does not tell what is in them.
    """
    inputs = trace.inputs
    found: dict[Node, frozenset[str]] = {}
    for node in trace.nodes:
        if node in inputs:
            found[node] = frozenset({inputs[node]})
        elif operator_name(node) == "aten.sym_size":
            found[node] = frozenset()
        else:
            sliced = parts_read(node)
            sources: Sequence[Node] = node.all_input_nodes if sliced is None else sliced[0]
            found[node] = frozenset().union(*(found[each] for each in sources))
    return found


def _source(stack_trace: str) -> str:
    """Return the innermost line of a stack that is neither a library's nor this package's.

    Where the module is itself a library's, the innermost line that is not torch's.
    """
    theirs = ""
    for path, line in reversed(_FRAME.findall(stack_trace)):
        file = Path(path)
        code = linecache.getline(path, int(line)).strip()
        if not code or not file.is_file() or _OURS & set(file.parents):
            continue  # torch makes functions without a file
        if not LIBRARIES & set(file.parts):
            return f"{file.name}:{line} `{code}`"
        if not theirs and not NUMERIC & set(file.parts):
            theirs = f"{file.name}:{line} `{code}`"
    return theirs
