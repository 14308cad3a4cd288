"""A flat ONNX graph as a graph whose inputs are the tensors of the wire.

Triton's own ONNX Runtime backend hands a request's tensors to the graph as they came. A flat graph
wants a column for each feature and a row for each (user, candidate) pair, so it gets a few nodes in
front that cut the wire tensors apart, and one behind that gives every request its scores::

    user_int64 [R, W] ─ Expand ─┐
    item_int64 [R, N, W] ───────┴─ Split ─ Reshape ─► flat graph, R·N rows ─ Reshape ─► score [R, N]

R is 1 for a request by itself. Triton joins requests of equal N along it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError
from rankers.wire import SCORE, WireTensor, wire_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rankers.features import Signature

# The first operator set whose Shape has a start and an end.
LEAST_OPSET = 15
# Names of the flat graph get the one prefix and ours the other, so that none can meet: a feature
# may well be called user_int64 or score.
_FLAT = "flat/"
WIRE = "wire/"
_COLUMN = "wire/column/"
# An output of a graph that cuts tensors, int64 [2], and what the graph behind takes.
SHAPE = "wire/shape"
_SCORES, _SCORE_SHAPE = "wire/flat_scores", "wire/score_shape"


def write_graph(
    form: Callable[[Any, Signature], Any], source: Path, target: Path, signature: Signature
) -> None:
    """Write the wire form of a graph.

    External data stays where it is: the new graph names the same files beside ``target``.

    Args:
        form: Makes it: `wire_model` of a flat graph, `optimize.triton.ragged_graph.ragged_model` of
            a user-once one.
        source: The graph.
        target: Where the new one goes; may be ``source``.
        signature: The features of the graph, and so of the wire.

    Raises:
        UserError: The graph has an input that is no feature, or its operator set is too old.
    """
    import onnx

    model = onnx.load(source, load_external_data=False)
    onnx.save(form(model, signature), target)
    onnx.checker.check_model(str(target))


def wire_model(flat: Any, signature: Signature) -> Any:
    """Return the wire form of a flat ``ModelProto``; IR version and operator sets are kept.

    Raises:
        UserError: The graph has an input that is no feature, or its operator set is too old.
    """
    wanted = feature_inputs(flat, signature)
    check_opset(flat)
    cutting = _cutting_graph(wire_tensors(signature), wanted)
    return with_wire(flat, cutting, wanted, prefix=_FLAT)


def with_wire(source: Any, cutting: Any, wanted: list[str], *, prefix: str) -> Any:
    """Return a ``ModelProto`` behind a graph that cuts tensors for it.

    Args:
        source: From columns to scores.
        cutting: The graph from the tensors that come in their place to the columns called
            ``wanted``. It may have an output `SHAPE` with the scores' ``[R, N]``; without it they
            are ``[rows]``.
        wanted: The inputs of ``source``.
        prefix: Of the names of ``source``, so that they meet no other.
    """
    from onnx import compose

    shaped = SHAPE in [each.name for each in cutting.output]
    model = compose.add_prefix(source, prefix, rename_functions=False)
    first, *_ = model.graph.output
    graph = compose.merge_graphs(
        cutting,
        model.graph,
        io_map=[(f"{_COLUMN}{name}", f"{prefix}{name}") for name in wanted],
        # Older graphs list their weights as inputs too; those stay weights alone.
        inputs=[each.name for each in cutting.input],
    )
    graph = compose.merge_graphs(
        graph,
        _scoring_graph(first, shaped=shaped),
        io_map=[(first.name, _SCORES), *([(SHAPE, _SCORE_SHAPE)] if shaped else [])],
        outputs=[SCORE],
        name=source.graph.name,
        doc_string=source.graph.doc_string,
    )
    model.graph.CopyFrom(graph)
    return model


def feature_inputs(flat: Any, signature: Signature, also: tuple[str, ...] = ()) -> list[str]:
    """Return the features that the graph reads: an exporter drops those it does not need.

    Args:
        flat: The graph.
        signature: The features.
        also: What else it may read.

    Raises:
        UserError: It reads something else.
    """
    weights = {each.name for each in flat.graph.initializer}
    names = [each.name for each in flat.graph.input if each.name not in weights]
    known = {each.name for each in signature.features} | set(also)
    for name in names:
        if name not in known:
            raise UserError(
                f"the graph has an input {name!r} that is no feature of the artifact: export it "
                "again"
            )
    return names


def check_opset(flat: Any) -> None:
    """Raise a UserError if the graph's operator set is too old for the wire's nodes."""
    opset = next((each.version for each in flat.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise UserError(
            f"the graph is of ONNX operator set {opset}; the wire form needs {LEAST_OPSET} or "
            "later: export it again"
        )


def _cutting_graph(tensors: tuple[WireTensor, ...], wanted: list[str]) -> Any:
    """Return the graph from wire tensors to the columns called ``wanted``, [R·N, …] each.

    Its last output, `SHAPE`, is [R, N].
    """
    from onnx import TensorProto, helper

    building = Building()
    item = next(each.name for each in tensors if each.side == "item")
    # [R, N] gives the scores their shape, and [1, N, 1] spreads a user over the candidates.
    building.node("Shape", [item], [SHAPE], start=0, end=2)
    building.node("Shape", [item], [f"{WIRE}count"], start=1, end=2)
    one = building.constant("one", [1])
    building.node("Concat", [one, f"{WIRE}count", one], [f"{WIRE}spread"], axis=0)
    # [R·N]: stated for every column, so that none with other candidates is broadcast unnoticed.
    building.node("ReduceProd", [SHAPE], [f"{WIRE}pairs"], keepdims=1)
    outputs = []
    for tensor in tensors:
        read = [each for each in tensor.features if each.name in wanted]
        if not read:
            continue
        parts = _split(building, tensor, _rows(building, tensor))
        for each in read:
            column = f"{_COLUMN}{each.name}"
            building.node("Reshape", [parts[each.name], building.rows_of(each.shape)], [column])
            outputs.append(value_info(column, tensor.dtype, ["rows", *each.shape]))
    outputs.append(helper.make_tensor_value_info(SHAPE, TensorProto.INT64, [2]))
    axes = {"user": ["requests"], "item": ["requests", "candidates"]}
    inputs = [value_info(each.name, each.dtype, [*axes[each.side], each.width]) for each in tensors]
    return helper.make_graph(building.nodes, "wire", inputs, outputs, building.constants)


def _rows(building: Building, tensor: WireTensor) -> str:
    """Add the nodes from a wire tensor to one row a pair, [R·N, W]; return the rows' name."""
    name, rows = tensor.name, f"{WIRE}rows/{tensor.name}"
    if tensor.side == "user":
        # A 0 keeps the size of its place: [R, W] to [R, 1, W] to [R, N, W].
        apart = building.constant(f"apart/{name}", [0, 1, tensor.width])
        building.node("Reshape", [name, apart], [f"{WIRE}apart/{name}"])
        name = f"{WIRE}spread/{tensor.name}"
        building.node("Expand", [f"{WIRE}apart/{tensor.name}", f"{WIRE}spread"], [name])
    building.node("Reshape", [name, building.rows_of((tensor.width,))], [rows])
    return rows


def _split(building: Building, tensor: WireTensor, rows: str) -> dict[str, str]:
    """Add the node that cuts [R·N, W] apart; return the name of each feature's part."""
    if len(tensor.features) == 1:
        return {tensor.features[0].name: rows}
    widths = building.constant(f"widths/{tensor.name}", [each.width for each in tensor.features])
    parts = {each.name: f"{WIRE}part/{each.name}" for each in tensor.features}
    building.node("Split", [rows, widths], list(parts.values()), axis=1)
    return parts


def _scoring_graph(scores: Any, *, shaped: bool) -> Any:
    """Return the graph from a model's first output to ``score``: float32 [R, N], or [rows]."""
    from onnx import TensorProto, helper

    building = Building()
    kind = scores.type.tensor_type.elem_type
    inputs = [helper.make_tensor_value_info(_SCORES, kind, None)]
    if shaped:
        shape = _SCORE_SHAPE
        inputs.append(helper.make_tensor_value_info(shape, TensorProto.INT64, [2]))
    else:
        shape = building.constant("scores", [-1])
    floats = _SCORES
    if kind != TensorProto.FLOAT:
        floats = f"{WIRE}float_scores"
        building.node("Cast", [_SCORES], [floats], to=TensorProto.FLOAT)
    building.node("Reshape", [floats, shape], [SCORE])
    score = value_info(SCORE, "float32", ["requests", "candidates"] if shaped else ["rows"])
    return helper.make_graph(building.nodes, "scores", inputs, [score], building.constants)


class Building:
    """The nodes and constants of a graph that is being made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._shapes: set[str] = set()

    def constant(self, name: str, values: list[int]) -> str:
        """Add an int64 vector and return its name."""
        from onnx import numpy_helper

        full = f"{WIRE}constant/{name}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), full))
        return full

    def scalar(self, name: str, value: int) -> str:
        """Add an int64 number and return its name."""
        from onnx import numpy_helper

        full = f"{WIRE}constant/{name}"
        self.constants.append(numpy_helper.from_array(np.array(value, np.int64), full))
        return full

    def rows_of(self, shape: tuple[int, ...]) -> str:
        """Return the name of the shape of R·N rows that are of ``shape`` each."""
        if not shape:
            return f"{WIRE}pairs"
        called = "x".join(str(size) for size in shape)
        name = f"{WIRE}rows_of/{called}"
        if name not in self._shapes:
            self._shapes.add(name)
            sizes = self.constant(f"sizes/{called}", list(shape))
            self.node("Concat", [f"{WIRE}pairs", sizes], [name], axis=0)
        return name

    def node(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Add a node, called after its first output."""
        from onnx import helper

        name = f"{WIRE}node/{outputs[0].removeprefix(WIRE)}"
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))


def value_info(name: str, dtype: str, shape: list[Any]) -> Any:
    """Return what a graph says of an input or output."""
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)
