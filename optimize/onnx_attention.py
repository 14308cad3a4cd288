"""Masks and keys of attention as ONNX Runtime computes them fast: a rewrite of an ONNX graph.

ONNX Runtime's softmax on a CPU takes e^x of a masked score for a denormal number, which processors
compute many times slower than others: the more padding, the slower. Masked scores are cut to
`FLOOR` here instead (docs/decisions/039-masked-scores-have-a-floor.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# e^-60 is 1e-26: nothing beside a row's largest weight, unless all that is seen is below -43; and
# no denormal number, unless the largest score is over 27.
FLOOR = -60.0
# From here on a float32 sum with a score is the mask alone, so that a row of nothing but masked
# scores has equal weights, as it has if all of them are `FLOOR`.
_FAR_BELOW = -1e9
# What hands a mask's values on as they are.
_CARRIERS = {"Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


def rewrite_attention(model: Any) -> int:
    """Give masked scores a floor and turn keys in one step, in place.

    Args:
        model: An ``onnxscript.ir.Model`` whose values have shapes.

    Returns:
        How many nodes were rewritten: 0 of a graph that is as it was.
    """
    from onnxscript.ir.passes.common import RemoveUnusedNodesPass

    limits: dict[Any, Any] = {}
    count = 0
    for node in list(model.graph):
        if node.op_type == "Softmax":
            count += _floor_masked(model.graph, node, limits)
        elif node.op_type == "Transpose":
            count += _turn_at_once(model.graph, node)
    if count:
        RemoveUnusedNodesPass()(model)
    return count


def _floor_masked(graph: Any, softmax: Any, limits: dict[Any, Any]) -> bool:
    """Take the lesser of a score and its limit, where a mask was added to it."""
    from onnxscript import ir

    add = softmax.inputs[0].producer()
    rank = len(softmax.inputs[0].shape or ())
    if add is None or add.op_type != "Add" or len(add.outputs[0].uses()) != 1:
        return False
    if softmax.attributes.get_int("axis", -1) not in (-1, rank - 1):
        return False
    for score, mask in (add.inputs, add.inputs[::-1]):
        least = _least_of_mask(mask)
        if least is None or least > _FAR_BELOW or score.dtype != ir.DataType.FLOAT:
            continue
        if mask not in limits:
            limits[mask] = _limit(graph, add, mask)
        _replace(graph, add, "Min", [score, limits[mask]])
        return True
    return False


def _least_of_mask(mask: Any) -> float | None:
    """Return the number besides 0 that a mask holds; None if it may hold others."""
    from onnxscript import ir

    values: set[float] = set()
    todo = [mask]
    while todo:
        value = todo.pop()
        constant = ir.convenience.get_const_tensor(value)
        maker = value.producer()
        if constant is not None:
            values |= {float(x) for x in np.unique(constant.numpy())}
        elif maker is not None and maker.op_type in _CARRIERS:
            todo.append(maker.inputs[0])
        elif maker is not None and maker.op_type == "Where":
            todo += maker.inputs[1:]
        else:
            return None
    others = values - {0.0}
    return others.pop() if len(others) == 1 and 0.0 in values else None


def _limit(graph: Any, before: Any, mask: Any) -> Any:
    """Return the largest that a score may be: infinity where it is seen, else `FLOOR`.

    A row without anything seen becomes NaN if it was so before, by a mask of minus infinity.
    """
    most = _insert(graph, before, "ReduceMax", [mask, _constant(graph, "last", [-1])])
    nothing = _insert(graph, before, "Mul", [most, _constant(graph, "zero", 0.0)])
    floor = _insert(graph, before, "Add", [nothing, _constant(graph, "floor", FLOOR)])
    seen = _insert(graph, before, "Equal", [mask, _constant(graph, "zero", 0.0)])
    return _insert(graph, before, "Where", [seen, _constant(graph, "infinity", np.inf), floor])


def _turn_at_once(graph: Any, turn: Any) -> bool:
    """Swap the last two dimensions of ``[..., L, d]`` without a way over three dimensions."""
    before, after = turn.inputs[0].producer(), _only_reader(turn.outputs[0])
    if before is None or after is None or {before.op_type, after.op_type} != {"Reshape"}:
        return False
    source, target = before.inputs[0], after.outputs[0]
    shape, flat, turned = (_sizes(x) for x in (source, before.outputs[0], target))
    fits = (
        _perm(turn) == [0, 2, 1]
        and len(shape) > 3
        and flat[1:] == shape[-2:]
        and None not in flat[1:]
        and _same(turned, (*shape[:-2], shape[-1], shape[-2]))
    )
    if not fits:
        return False
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    maker = source.producer()
    if maker is not None and maker.op_type == "Transpose":
        source, order = maker.inputs[0], [_perm(maker)[x] for x in order]
    _replace(graph, after, "Transpose", [source], perm=order)
    return True


def _perm(transpose: Any) -> list[int]:
    given = transpose.attributes.get("perm")
    rank = len(transpose.inputs[0].shape or ())
    return list(given.as_ints()) if given else [*range(rank)][::-1]


def _only_reader(value: Any) -> Any:
    readers = value.uses()
    return readers[0].node if len(readers) == 1 and not value.is_graph_output() else None


def _sizes(value: Any) -> tuple[int | str | None, ...]:
    return tuple(x if isinstance(x, int) else x.value for x in value.shape or ())


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether shapes of as many elements are the same: of open sizes one may be unnamed."""
    pairs = [*zip(one, other, strict=False)]
    unlike = [pair for pair in pairs if None in pair or pair[0] != pair[1]]
    both_open = not any(isinstance(x, int) for pair in unlike for x in pair)
    return len(one) == len(other) and len(unlike) <= 1 and both_open


def _replace(graph: Any, node: Any, kind: str, inputs: Sequence[Any], **attributes: Any) -> None:
    from onnxscript import ir

    made = ir.Node("", kind, inputs, ir.convenience.convert_attributes(attributes), num_outputs=1)
    ir.convenience.replace_nodes_and_values(graph, node, [node], [made], node.outputs, made.outputs)


def _insert(graph: Any, before: Any, kind: str, inputs: Sequence[Any]) -> Any:
    from onnxscript import ir

    node = ir.Node("", kind, inputs, num_outputs=1)
    graph.insert_before(before, node)
    return node.outputs[0]


def _constant(graph: Any, name: str, value: Any) -> Any:
    from onnxscript import ir

    full = f"attention/{name}"
    if full not in graph.initializers:
        kind = np.int64 if isinstance(value, list) else np.float32
        tensor = ir.tensor(np.array(value, kind), name=full)
        graph.register_initializer(ir.Value(name=full, const_value=tensor))
    return graph.initializers[full]
