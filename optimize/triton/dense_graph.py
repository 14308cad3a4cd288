"""A user-once ONNX graph as a graph of dense wire tensors: requests of equal N along one axis.

TensorRT takes no ragged inputs, so a plan of a user-once graph gets requests as a flat one does,
and each user still comes once::

    user_int64 [R, W] ──── Split ─ Reshape ─► user columns [R, …] ────┐
    item_int64 [R, N, W] ─ Reshape ─ Split ─► item columns [R·N, …] ──┤ user-once graph ─► [R, N]
    Range(R) spread over N ─────────────────► item_to_request [R·N] ──┘
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimize.triton.wire_graph import (
    SHAPE,
    WIRE,
    Building,
    check_opset,
    feature_inputs,
    value_info,
    wire_model,
    with_wire,
)
from rankers.requests import ITEM_TO_REQUEST
from rankers.wire import WireTensor, wire_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.artifact import Layout
    from rankers.features import Signature

_GRAPH = "once/"
_COLUMN = f"{WIRE}column/"


def dense_form(layout: Layout) -> Callable[[Any, Signature], Any]:
    """Return what makes a graph of a layout, ``flat`` or ``user_once``, take dense wire tensors."""
    return dense_model if layout == "user_once" else wire_model


def dense_model(once: Any, signature: Signature) -> Any:
    """Return the dense form of a user-once ``ModelProto``; IR version and operator sets are kept.

    Raises:
        UserError: The graph has an input that is no feature, or its operator set is too old.
    """
    wanted = feature_inputs(once, signature, also=(ITEM_TO_REQUEST,))
    check_opset(once)
    cutting = _cutting_graph(wire_tensors(signature), wanted)
    return with_wire(once, cutting, wanted, prefix=_GRAPH)


def _cutting_graph(tensors: tuple[WireTensor, ...], wanted: list[str]) -> Any:
    """Return the graph from dense wire tensors to the columns called ``wanted``.

    Its last output, `SHAPE`, is [R, N].
    """
    from onnx import TensorProto, helper

    building = Building()
    item = next(each.name for each in tensors if each.side == "item")
    building.node("Shape", [item], [SHAPE], start=0, end=2)
    outputs = []
    for tensor in tensors:
        read = [each for each in tensor.features if each.name in wanted]
        if not read:
            continue
        rows = f"{WIRE}rows/{tensor.name}"
        as_rows = building.constant(f"rows/{tensor.name}", [-1, tensor.width])
        building.node("Reshape", [tensor.name, as_rows], [rows])
        parts = [f"{WIRE}part/{each.name}" for each in tensor.features]
        widths = building.constant(
            f"widths/{tensor.name}", [each.width for each in tensor.features]
        )
        building.node("Split", [rows, widths], parts, axis=1)
        count = "requests" if tensor.side == "user" else "rows"
        for each in read:
            column = f"{_COLUMN}{each.name}"
            shape = building.constant(f"shape/{each.name}", [-1, *each.shape])
            building.node("Reshape", [f"{WIRE}part/{each.name}", shape], [column])
            outputs.append(value_info(column, tensor.dtype, [count, *each.shape]))
    if ITEM_TO_REQUEST in wanted:
        _spread_requests(building, item)
        outputs.append(value_info(f"{_COLUMN}{ITEM_TO_REQUEST}", "int64", ["rows"]))
    outputs.append(helper.make_tensor_value_info(SHAPE, TensorProto.INT64, [2]))
    axes = {"user": ["requests"], "item": ["requests", "candidates"]}
    inputs = [value_info(each.name, each.dtype, [*axes[each.side], each.width]) for each in tensors]
    return helper.make_graph(building.nodes, "wire", inputs, outputs, building.constants)


def _spread_requests(building: Building, item: str) -> None:
    """Add the nodes that say for each of R·N candidates whose it is."""
    zero, one = building.scalar("zero", 0), building.scalar("one", 1)
    building.node("Shape", [item], [f"{WIRE}counts"], start=0, end=1)
    first = building.constant("axis", [0])
    building.node("Squeeze", [f"{WIRE}counts", first], [f"{WIRE}requests"])
    building.node("Range", [zero, f"{WIRE}requests", one], [f"{WIRE}places"])
    upright = building.constant("upright", [-1, 1])
    building.node("Reshape", [f"{WIRE}places", upright], [f"{WIRE}places_upright"])
    building.node("Expand", [f"{WIRE}places_upright", SHAPE], [f"{WIRE}owners"])
    flat = building.constant("owners", [-1])
    building.node("Reshape", [f"{WIRE}owners", flat], [f"{_COLUMN}{ITEM_TO_REQUEST}"])
