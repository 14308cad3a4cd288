"""A user-once ONNX graph becomes two, cut where user meets item.

::

    user columns [R, …] ─► the user's graph ─► state tensors [R, …]     kept between requests
                                                     │
    item columns [ΣN, …], item_to_request [ΣN] ──────┴─► the candidates' graph ─► scores [ΣN]

Weights and constants go where they are read, to both if need be. All that is below needs to know of
users is how many there are, which is read from a state tensor there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError
from rankers.requests import ITEM_TO_REQUEST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rankers.requests import Array

# What they make is made again from what is kept, not kept beside it: they move values about.
_CHEAP = {
    "Cast", "Concat", "Identity", "Pad", "Reshape", "Shape", "Slice", "Squeeze", "Transpose",
    "Unsqueeze",
}  # fmt: skip
_NONE: frozenset[str] = frozenset()
_USER, _ITEM, _INDEX = (frozenset({side}) for side in ("user", "item", "index"))


@dataclass(frozen=True, slots=True)
class Crossing:
    """A value of the user's that candidates read.

    Attributes:
        value: Its name in the graph that is cut.
        state: Its name as a state tensor, which no feature can have.
        axis: Where its users are.
    """

    value: str
    state: str
    axis: int


def crossings(graph: Any, user: Collection[str]) -> tuple[Crossing, ...]:
    """Return what the candidates' part of a user-once graph reads of the user's.

    Of a history and the same history padded it is the first: the other follows.

    Args:
        graph: An ONNX GraphProto that repeats the user's values with ``Gather(value, index)``,
            where the index follows from ``item_to_request``.
        user: The names of the user's inputs.

    Raises:
        UserError: Candidates read none of the user's values, or one in another way.
    """
    sides = _sides(graph, user)
    found: dict[str, int] = {}  # value → axis
    for node in graph.node:
        if not _is_below(sides[node.output[0]]):
            continue
        for place, name in enumerate(node.input):
            if sides.get(name) != _USER:
                continue
            if node.op_type != "Gather" or place != 0 or sides.get(node.input[1]) != _INDEX:
                raise UserError(
                    f"the user's part cannot be kept apart: {node.op_type} reads {name!r} for all "
                    "candidates at once; put the stage user_state right after export_onnx"
                )
            found[name] = next((each.i for each in node.attribute if each.name == "axis"), 0)
    if not found:
        raise UserError("candidates read nothing that was computed for the user: nothing to keep")
    kept = [name for name in found if not _follows(name, graph, sides, found.keys() - {name})]
    return tuple(Crossing(name, f"state/{at}", found[name]) for at, name in enumerate(kept))


def user_model(model: Any, user: Sequence[str], crossing: Sequence[Crossing]) -> Any:
    """Return the part from the user's columns to the values that cross, by their own names."""
    from onnx import ValueInfoProto

    inputs = [each for each in model.graph.input if each.name in user]
    outputs = [ValueInfoProto(name=each.value) for each in crossing]
    return _part(model, "user", inputs, outputs)


def finish_user_model(model: Any, crossing: Sequence[tuple[Crossing, Array]]) -> None:
    """Name the values that cross, in place: state tensors with the users first.

    Args:
        model: As `user_model` made it.
        crossing: What crosses, with an example of each value.
    """
    del model.graph.output[:]
    for each, value in crossing:
        model.graph.node.append(_moved(each.value, each.state, each.axis, 0, value.ndim))
        model.graph.output.append(_value_info(each, value))


def candidates_model(
    model: Any, user: Collection[str], crossing: Sequence[tuple[Crossing, Array]]
) -> Any:
    """Return the part from state tensors, items' columns and ``item_to_request`` to scores.

    Args:
        model: The whole one.
        user: The names of the user's inputs.
        crossing: What crosses, with an example of each value.
    """
    states = [_value_info(each, value) for each, value in crossing]
    inputs = [each for each in model.graph.input if each.name not in user]
    known = {each.value for each, _ in crossing}
    part = _part(model, "candidates", [*states, *inputs], model.graph.output, known)
    for node in part.graph.node:
        if _counts_users(node, user):
            node.input[0] = crossing[0][0].state
    for each, value in crossing:
        part.graph.node.insert(0, _moved(each.state, each.value, 0, each.axis, value.ndim))
    return part


def weight_bytes(model: Any) -> int:
    """Return the size of a model's weights."""
    return sum(len(each.raw_data) or each.ByteSize() for each in model.graph.initializer)


def _follows(
    name: str, graph: Any, sides: dict[str, frozenset[str]], kept: Collection[str]
) -> bool:
    """Whether a value is had from others by operators that cost next to nothing."""
    node = next((each for each in graph.node if name in each.output), None)
    return (
        node is not None
        and node.op_type in _CHEAP
        and all(
            each in kept or sides.get(each, _NONE) == _NONE or _follows(each, graph, sides, kept)
            for each in node.input
        )
    )


def _sides(graph: Any, user: Collection[str]) -> dict[str, frozenset[str]]:
    """Return what each value depends on: user, item, ``item_to_request``. Weights are nobody's."""
    sides = {each.name: _USER if each.name in user else _ITEM for each in graph.input}
    sides |= {each.name: _NONE for each in graph.initializer}
    sides[ITEM_TO_REQUEST] = _INDEX
    for node in graph.node:
        if any(each.HasField("g") or each.graphs for each in node.attribute):
            raise UserError(
                f"the user's part cannot be kept apart: {node.op_type} has a graph of its own"
            )
        counts = _counts_users(node, user)
        own = _NONE if counts else _NONE.union(*(sides.get(each, _NONE) for each in node.input))
        sides |= dict.fromkeys(node.output, own)
    return sides


def _is_below(side: frozenset[str]) -> bool:
    return bool(side & (_ITEM | _INDEX))


def _counts_users(node: Any, user: Collection[str]) -> bool:
    """Whether a node reads how many users there are, and nothing of what is in their columns."""
    if node.op_type != "Shape" or node.input[0] not in user:
        return False
    bounds = {each.name: each.i for each in node.attribute}
    return bounds.get("start", 0) == 0 and bounds.get("end") == 1


def _part(
    model: Any,
    name: str,
    inputs: Iterable[Any],
    outputs: Sequence[Any],
    known: Collection[str] = (),
) -> Any:
    """Return a model of what is needed for some outputs, where some values are known."""
    from onnx import helper

    wanted = {each.name for each in outputs} - set(known)
    nodes = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(set(node.input) - set(known))
    held = [each for each in model.graph.initializer if each.name in wanted]
    graph = helper.make_graph(nodes[::-1], name, list(inputs), list(outputs), held)
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        functions=list(model.functions),
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )


def _moved(name: str, to: str, source: int, destination: int, rank: int) -> Any:
    """Return the node that moves an axis, like NumPy's ``moveaxis``."""
    from onnx import helper

    source, destination = source % rank, destination % rank
    if source == destination:
        return helper.make_node("Identity", [name], [to])
    order = [axis for axis in range(rank) if axis != source]
    order.insert(destination, source)
    return helper.make_node("Transpose", [name], [to], perm=order)


def _value_info(crossing: Crossing, value: Array) -> Any:
    from onnx import helper

    shape = np.moveaxis(value, crossing.axis, 0).shape
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(crossing.state, kind, ["users", *shape[1:]])
