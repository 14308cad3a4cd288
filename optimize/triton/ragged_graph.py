"""A user-once graph as Triton's ONNX Runtime backend can feed it: requests of any sizes joined.

Where an input may be ragged, the backend lays the requests' values end to end in one axis, and says
in an input of its own where each request ends, counted in values::

    user_int64 [R, W] ────────────── Split ─ Reshape ─► user columns [R, …] ─────┐
    item_int64 [ΣN·W] ── Reshape ─── Split ─ Reshape ─► item columns [ΣN, …] ────┤ user-once graph
    item_ends int32 [R] ─ rows before each end ───────► item_to_request [ΣN] ────┘
                                                                      score [ΣN]

``score`` is cut by the sizes of the item input again (``BATCH_SCATTER_WITH_INPUT_SHAPE``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.triton.wire_graph import (
    WIRE,
    Building,
    check_opset,
    feature_inputs,
    value_info,
    with_wire,
)
from rankers.requests import ITEM_TO_REQUEST
from rankers.wire import WireTensor, wire_tensors

if TYPE_CHECKING:
    from rankers.features import Signature
    from rankers.requests import Columns, RequestBatch

ITEM_ENDS = "item_ends"
_GRAPH = "once/"
_COLUMN = f"{WIRE}column/"


def ragged_source(signature: Signature) -> WireTensor:
    """Return the item tensor whose values `ITEM_ENDS` counts."""
    return next(each for each in wire_tensors(signature) if each.side == "item")


def ragged_model(once: Any, signature: Signature) -> Any:
    """Return the ragged form of a user-once ``ModelProto``; IR version and operator sets are kept.

    Raises:
        UserError: The graph has an input that is no feature, or its operator set is too old.
    """
    wanted = feature_inputs(once, signature, also=(ITEM_TO_REQUEST,))
    check_opset(once)
    cutting = _cutting_graph(wire_tensors(signature), ragged_source(signature), wanted)
    return with_wire(once, cutting, wanted, prefix=_GRAPH)


def pack_ragged(signature: Signature, batch: RequestBatch) -> Columns:
    """Return requests as the backend joins them: the graph's inputs by name."""
    packed: Columns = {}
    for each in wire_tensors(signature):
        rows = each.pack(batch.user if each.side == "user" else batch.items)
        packed[each.name] = rows if each.side == "user" else rows.reshape(-1)
    ends = batch.offsets[1:] * ragged_source(signature).width
    return packed | {ITEM_ENDS: ends.astype(np.int32)}


def _cutting_graph(tensors: tuple[WireTensor, ...], source: WireTensor, wanted: list[str]) -> Any:
    """Return the graph from ragged wire tensors to the columns called ``wanted``."""
    from onnx import helper

    building = Building()
    outputs = []
    for tensor in tensors:
        rows = f"{WIRE}rows/{tensor.name}"
        as_rows = building.constant(f"rows/{tensor.name}", [-1, tensor.width])
        building.node("Reshape", [tensor.name, as_rows], [rows])
        parts = [f"{WIRE}part/{each.name}" for each in tensor.features]
        widths = [each.width for each in tensor.features]
        sizes = building.constant(f"widths/{tensor.name}", widths)
        building.node("Split", [rows, sizes], parts, axis=1)
        count = "requests" if tensor.side == "user" else "rows"
        for each, part in zip(tensor.features, parts, strict=True):
            if each.name in wanted:
                shape = building.constant(f"shape/{each.name}", [-1, *each.shape])
                building.node("Reshape", [part, shape], [f"{_COLUMN}{each.name}"])
                outputs.append(
                    value_info(f"{_COLUMN}{each.name}", each.dtype, [count, *each.shape])
                )
    if ITEM_TO_REQUEST in wanted:
        _count_ends(building, source)
        outputs.append(value_info(f"{_COLUMN}{ITEM_TO_REQUEST}", "int64", ["rows"]))
    inputs = [
        value_info(each.name, each.dtype, ["requests", each.width])
        if each.side == "user"
        else value_info(each.name, each.dtype, [f"values_of_{each.name}"])
        for each in tensors
    ]
    inputs.append(value_info(ITEM_ENDS, "int32", ["requests"]))
    return helper.make_graph(building.nodes, "wire", inputs, outputs, building.constants)


def _count_ends(building: Building, source: WireTensor) -> None:
    """Add the nodes that say for each row how many requests end before it: whose it is."""
    from onnx import TensorProto

    zero, one = building.scalar("zero", 0), building.scalar("one", 1)
    width = building.constant("width", [source.width])
    first = building.constant("axis", [0])
    building.node("Cast", [ITEM_ENDS], [f"{WIRE}ends"], to=TensorProto.INT64)
    building.node("Div", [f"{WIRE}ends", width], [f"{WIRE}row_ends"])
    upright = building.constant("upright", [-1, 1])
    building.node("Reshape", [f"{WIRE}row_ends", upright], [f"{WIRE}ends_upright"])  # [R, 1]
    building.node("Shape", [f"{WIRE}rows/{source.name}"], [f"{WIRE}counts"], start=0, end=1)
    building.node("Squeeze", [f"{WIRE}counts", first], [f"{WIRE}count"])
    building.node("Range", [zero, f"{WIRE}count", one], [f"{WIRE}places"])
    building.node("LessOrEqual", [f"{WIRE}ends_upright", f"{WIRE}places"], [f"{WIRE}before"])
    building.node("Cast", [f"{WIRE}before"], [f"{WIRE}ones"], to=TensorProto.INT64)
    building.node("ReduceSum", [f"{WIRE}ones", first], [f"{_COLUMN}{ITEM_TO_REQUEST}"], keepdims=0)
