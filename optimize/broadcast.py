"""One user's values are broadcast to the candidates, not repeated: a pass over a user-once graph.

A graph of the layout ``user_once`` repeats a user's values with ``Gather(value, item_to_request)``.
For a request alone in its batch that writes N copies of the same rows. Where all that reads them
would broadcast one row by itself, the gather is given ``picks`` in place of ``item_to_request``:
its first element only if there is one user, so that one row comes out, and all of it else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

ITEM_TO_REQUEST = "item_to_request"
_PICKS = "picks"
# Operators that broadcast their inputs; of a product, all dimensions but the last two.
_ELEMENTWISE = {
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
    "Mul", "Or", "Pow", "Sub", "Where",
}  # fmt: skip


def broadcast_one_user(model: Any, user_input: str) -> int:
    """Let gathers that may give one row for one user do so, in place.

    Args:
        model: An ONNX ModelProto with shapes of its values, whose rows of candidates have one
            symbolic name.
        user_input: Any input of the user's side, ``[R, …]``.

    Returns:
        How many gathers were changed.
    """
    graph = model.graph
    _read_index_directly(graph)
    shapes = _shapes(graph)
    rows = shapes[ITEM_TO_REQUEST][0]
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {each.name for each in graph.output}
    gathers = [node for node in graph.node if _repeats(node)]
    chosen = [node for node in gathers if node.output[0] not in outputs]
    # Whether a reader broadcasts one gather's row may depend on another gather's being repeated.
    while True:
        lone = {node.output[0] for node in chosen}
        kept = [
            node
            for node in chosen
            if all(
                _broadcasts(reader, node.output[0], shapes, lone, rows)
                for reader in readers.get(node.output[0], [])
            )
        ]
        if len(kept) == len(chosen):
            break
        chosen = kept
    for node in chosen:
        node.input[1] = _PICKS
    if chosen:
        for at, node in enumerate(_picking(model, user_input)):
            graph.node.insert(at, node)
    # Shapes said before hold no longer where one row may come out; the runtime infers its own.
    del graph.value_info[:]
    return len(chosen)


def _read_index_directly(graph: Any) -> None:
    """Take away the exporter's reshape of the index to one dimension, which it has."""
    for node in list(graph.node):
        if node.op_type == "Reshape" and node.input[0] == ITEM_TO_REQUEST:
            for reader in graph.node:
                for place, name in enumerate(reader.input):
                    if name == node.output[0]:
                        reader.input[place] = ITEM_TO_REQUEST
            graph.node.remove(node)


def _repeats(node: Any) -> bool:
    return bool(node.op_type == "Gather" and node.input[1] == ITEM_TO_REQUEST)


def _broadcasts(
    reader: Any, name: str, shapes: dict[str, list[Any]], lone: set[str], rows: Any
) -> bool:
    """Whether an operator gives the same for one row of an input as for that row repeated."""
    if reader.op_type not in _ELEMENTWISE and reader.op_type != "MatMul":
        return False
    if reader.output[0] not in shapes or name not in shapes:
        return False
    inner = 2 if reader.op_type == "MatMul" else 0
    own = shapes[name]
    if rows not in own or len(own) - own.index(rows) <= inner:
        return False
    from_end = len(own) - own.index(rows)
    # Another input has the rows at the same place, and is not one that may give one row.
    return any(
        other not in lone
        and len(shapes.get(other, ())) >= from_end
        and shapes[other][-from_end] == rows
        for other in reader.input
        if other != name
    )


def _shapes(graph: Any) -> dict[str, list[Any]]:
    """Return the sizes of values, numbers or symbolic names, where they are stated."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        found[value.name] = [
            each.dim_value if each.HasField("dim_value") else each.dim_param for each in dims
        ]
    for constant in graph.initializer:
        found[constant.name] = list(constant.dims)
    return found


def _picking(model: Any, user_input: str) -> Iterator[Any]:
    """Yield nodes that compute ``picks`` from ``item_to_request`` and the number of users."""
    from onnx import helper, numpy_helper

    def constant(name: str, values: list[int]) -> str:
        full = f"{_PICKS}/{name}"
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), full))
        return full

    one, zero = constant("one", [1]), constant("zero", [0])
    every = constant("all", [np.iinfo(np.int64).max])
    yield helper.make_node("Shape", [user_input], [f"{_PICKS}/users"], start=0, end=1)
    yield helper.make_node("Equal", [f"{_PICKS}/users", one], [f"{_PICKS}/alone"])
    yield helper.make_node("Where", [f"{_PICKS}/alone", one, every], [f"{_PICKS}/end"])
    yield helper.make_node("Slice", [ITEM_TO_REQUEST, zero, f"{_PICKS}/end"], [_PICKS])
