"""An increasing function of the score, put at the end of a program's graph.

What is put there are sums, products, clamps and sigmoids, which every runtime has. Each is
increasing in float32 too, whatever it rounds, and so is a sum of such terms in a fixed order: no
candidates change places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import aten
from optimize.score_map import HIGHEST, LOWEST, Piecewise, Scaled

if TYPE_CHECKING:
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph

# They hand a score on as it is, perhaps of another shape.
_HANDED_ON = {
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.flatten.using_ints,
    aten.reshape.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.to.dtype,
    aten.unsqueeze.default,
    aten.view.default,
    aten._to_copy.default,  # noqa: SLF001 - an operator's name
    aten._unsafe_view.default,  # noqa: SLF001
    aten.detach.default,
}


def fold_score_map(graph: FlatGraph, change: Scaled | Piecewise) -> str:
    """Let a graph's scores become what a function makes of them, in place.

    Args:
        graph: Of any layout, from columns to scores ``[rows]``.
        change: The function.

    Returns:
        Where it was put, in words.
    """
    output = next(iter(graph.module.graph.find_nodes(op="output")))
    score = _score(output)
    if isinstance(change, Scaled) and change.probability:
        sigmoid = _last_sigmoid(graph, score)
        if sigmoid is not None:
            logits: Any = sigmoid.args[0]
            _put(graph, sigmoid, logits, lambda x: _scaled(graph, x, change))
            return "before the last sigmoid"
        _put(graph, output, score, lambda x: _scaled_probability(graph, x, change))
    elif isinstance(change, Scaled):
        _put(graph, output, score, lambda x: _scaled(graph, x, change))
    else:
        _put(graph, output, score, lambda x: _piecewise(graph, x, change))
    return "after the score"


def _score(output: Node) -> Node:
    """Return the node of the scores, alone or in a tuple of one."""
    found: Any = output.args[0]
    if isinstance(found, tuple | list):
        (found,) = found
    score: Node = found
    return score


def _last_sigmoid(graph: FlatGraph, score: Node) -> Node | None:
    """Return the sigmoid that makes the score, if one does and nothing else reads it.

    Before it there is more to scale than after: a float32 probability near 1 has forgotten what
    its logit was.
    """
    node = score
    while node.target in _HANDED_ON and len(node.users) == 1:
        node = node.all_input_nodes[0]
    if node.target != aten.sigmoid.default or len(node.users) != 1:
        return None
    value = graph.run(graph.sample(2))[node]
    return node if value.dtype == torch.float32 else None


def _put(graph: FlatGraph, reader: Node, value: Node, make: Any) -> None:
    """Let one reader of a value read what is made of it."""
    with graph.module.graph.inserting_before(reader):
        made = make(value)
    reader.replace_input_with(value, made)


def _scaled(graph: FlatGraph, value: Node, change: Scaled) -> Node:
    call = graph.module.graph.call_function
    scaled = call(aten.mul.Tensor, (value, change.scale))
    return call(aten.add.Tensor, (scaled, change.shift)) if change.shift else scaled


def _scaled_probability(graph: FlatGraph, value: Node, change: Scaled) -> Node:
    call = graph.module.graph.call_function
    kept = call(aten.clamp.default, (value, LOWEST, HIGHEST))
    odds = call(aten.div.Tensor, (kept, call(aten.rsub.Scalar, (kept, 1.0))))
    logits = call(aten.log.default, (odds,))
    return call(aten.sigmoid.default, (_scaled(graph, logits, change),))


def _piecewise(graph: FlatGraph, value: Node, change: Piecewise) -> Node:
    """Sum up, over all pieces, the rise of each times the share of it that lies below the score.

    Tensors are ``[rows, pieces]``.
    """
    call = graph.module.graph.call_function
    x, y = (torch.tensor(each, dtype=torch.float32) for each in (change.x, change.y))
    low, width, rise = x[:-1].clone(), x.diff(), y.diff()
    names = ("calibration_low", "calibration_per_width", "calibration_rise")
    lows, per_width, rises = (
        graph.constant(name, each, value.next)
        for name, each in zip(names, (low, 1 / width, rise), strict=True)
    )
    above = call(aten.sub.Tensor, (call(aten.unsqueeze.default, (value, -1)), lows))
    share = call(aten.clamp.default, (call(aten.mul.Tensor, (above, per_width)), 0.0, 1.0))
    risen = call(aten.sum.dim_IntList, (call(aten.mul.Tensor, (share, rises)), [-1]))
    result = call(aten.add.Tensor, (risen, change.y[0]))
    if change.end_slope:
        below = call(aten.clamp.default, (call(aten.sub.Tensor, (value, change.x[0])), None, 0.0))
        beyond = call(aten.clamp.default, (call(aten.sub.Tensor, (value, change.x[-1])), 0.0))
        for each in (below, beyond):
            part = call(aten.mul.Tensor, (each, change.end_slope))
            result = call(aten.add.Tensor, (result, part))
    if change.probability:
        result = call(aten.clamp.default, (result, 0.0, 1.0))
    return result
