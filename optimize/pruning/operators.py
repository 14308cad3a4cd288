"""What operators do to channels: carry them on, join them, or hold them where they are.

An operator that is not known here holds the channels that it reads, so a graph is never cut where
its meaning is not known. Layer norms, softmaxes, dots and attention over a channel's dimension are
such: without a channel they would compute something else of the others. Attention over whole heads
is not (`optimize.pruning.heads`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import arguments, aten, dimension
from optimize.pruning.aligned import aligned
from optimize.pruning.channels import Carried
from optimize.pruning.heads import attend, contract, multiply
from optimize.pruning.reshaping import expand, reshape

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import Node

    from optimize.pruning.walk import Walk

_SAME = {
    aten.to.dtype, aten.contiguous.default, aten.alias.default, aten.detach.default,
    aten.dropout.default, aten.where.Scalar, aten.hardswish.default, aten.masked_fill.Tensor,
}  # fmt: skip


def carry(walk: Walk, node: Node) -> Carried | None:
    """Return the channels of a node's value; None if it has none that can be told."""
    rule = _RULES.get(node.target)
    if rule is not None:
        return rule(walk, node)
    tags = getattr(node.target, "tags", ())
    if torch.Tag.pointwise in tags or node.target in _SAME:
        return aligned(walk, node)
    return walk.hold(node)


def _linear(walk: Walk, node: Node) -> Carried | None:
    given = arguments(node)
    source, weight, bias = given["input"], given["weight"], given["bias"]
    if walk.graph.held(weight) is None:
        return walk.hold(node)
    before = walk.carried.get(source)
    inputs = walk.of_parameter(weight, 1)
    if before is None:
        walk.channels.fix(inputs, "no layer makes its inputs")
    elif before.axis == walk.rank(source) - 1:
        walk.channels.join(before.channels, inputs)
    else:
        walk.channels.fix((*before.channels, *inputs), "a layer over another dimension")
    outputs = walk.of_parameter(weight, 0)
    walk.known(weight, node)
    if bias is not None and walk.graph.held(bias) is not None:
        walk.channels.join(walk.of_parameter(bias, 0), outputs)
        walk.known(bias, node)
    elif bias is not None:
        walk.channels.fix(outputs, "its bias is computed")
    walk.layers.append(node)
    return Carried(walk.rank(node) - 1, outputs)


def _batch_norm(walk: Walk, node: Node) -> Carried | None:
    given = arguments(node)
    before = walk.carried.get(given["input"])
    if before is None or before.axis != 1 or given["training"]:
        return walk.hold(node)
    for name in ("weight", "bias", "running_mean", "running_var"):
        held = given[name]
        if held is None:
            continue
        if walk.graph.held(held) is None:
            return walk.hold(node)
        walk.channels.join(walk.of_parameter(held, 0), before.channels)
        walk.known(held, node)
    return before


def _prelu(walk: Walk, node: Node) -> Carried | None:
    given = arguments(node)
    before, weight = walk.carried.get(given["self"]), walk.graph.held(given["weight"])
    if before is None or weight is None:
        return walk.hold(node)
    if weight.numel() > 1:
        if before.axis != 1:
            return walk.hold(node)
        walk.channels.join(walk.of_parameter(given["weight"], 0), before.channels)
    walk.known(given["weight"], node)
    return before


def _cat(walk: Walk, node: Node) -> Carried | None:
    given = arguments(node)
    axis = dimension(given["dim"], walk.rank(node))
    parts = [walk.carried.get(each) for each in given["tensors"]]
    if not any(parts):
        return None
    if all(each is None or each.axis == axis for each in parts):
        found: list[int] = []
        for part, source in zip(parts, given["tensors"], strict=True):
            if part is not None:
                found.extend(part.channels)
                continue
            new = walk.channels.new(walk.shapes[source][axis])
            walk.channels.fix(new, "no layer makes it")
            found.extend(new)
        return Carried(axis, tuple(found))
    return _all_alike(walk, node, parts, shift=0)


def _stack(walk: Walk, node: Node) -> Carried | None:
    given = arguments(node)
    axis = dimension(given["dim"], walk.rank(node))
    parts = [walk.carried.get(each) for each in given["tensors"]]
    if not any(parts):
        return None
    first = next(each for each in parts if each is not None)
    return _all_alike(walk, node, parts, shift=int(axis <= first.axis))


def _all_alike(
    walk: Walk, node: Node, parts: list[Carried | None], *, shift: int
) -> Carried | None:
    """Join the channels of values side by side in another dimension than theirs."""
    first = parts[0]
    if first is None or any(each is None or each.axis != first.axis for each in parts):
        return walk.hold(node)
    for each in parts:
        if each is not None:
            walk.channels.join(each.channels, first.channels)
    return Carried(first.axis + shift, first.channels)


def _moved(to: Callable[[Walk, Node, int], int | None]) -> Callable[[Walk, Node], Carried | None]:
    """Make a rule of where a dimension goes; None where its channels would not stay whole."""

    def rule(walk: Walk, node: Node) -> Carried | None:
        source: Any = node.args[0]
        before = walk.carried.get(source)
        if before is None:
            return None
        if any(each in walk.carried for each in node.all_input_nodes if each is not source):
            return walk.hold(node)
        axis = to(walk, node, before.axis)
        return walk.hold(node) if axis is None else Carried(axis, before.channels)

    return rule


def _given(walk: Walk, node: Node, name: str) -> int:
    """Return a dimension that a node names, from the front of its input."""
    source: Any = node.args[0]
    return dimension(arguments(node)[name], walk.rank(source))


def _transposed(walk: Walk, node: Node, axis: int) -> int:
    one, other = (_given(walk, node, name) for name in ("dim0", "dim1"))
    return {one: other, other: one}.get(axis, axis)


def _permuted(walk: Walk, node: Node, axis: int) -> int:
    return [x % walk.rank(node) for x in arguments(node)["dims"]].index(axis)


def _unsqueezed(walk: Walk, node: Node, axis: int) -> int:
    return axis + int(dimension(arguments(node)["dim"], walk.rank(node)) <= axis)


def _without(walk: Walk, node: Node, axis: int) -> int | None:
    """Where a dimension goes if another one is taken out, if it is."""
    at = _given(walk, node, "dim")
    if at == axis:
        return None
    return axis - int(at < axis and walk.rank(node) < _rank_before(walk, node))


def _other(walk: Walk, node: Node, axis: int) -> int | None:
    """Where a dimension goes if something happens to another one."""
    return None if _given(walk, node, "dim") == axis else axis


def _sliced(walk: Walk, node: Node, axis: int) -> int | None:
    source: Any = node.args[0]
    whole = walk.shapes[node] == walk.shapes[source]
    return axis if whole else _other(walk, node, axis)


def _reduced(walk: Walk, node: Node, axis: int) -> int | None:
    given, rank = arguments(node), _rank_before(walk, node)
    dims = given["dim"]
    over = {x % rank for x in (dims if isinstance(dims, list | tuple) else [dims])} if dims else {
        *range(rank)
    }  # fmt: skip
    if axis in over:
        return None
    return axis if given["keepdim"] else axis - sum(x < axis for x in over)


def _indexed(walk: Walk, node: Node, axis: int) -> int | None:
    indices = arguments(node)["indices"]
    if len(indices) != 1 or axis == 0 or indices[0] is None:
        return None
    return axis + walk.rank(indices[0]) - 1


def _rank_before(walk: Walk, node: Node) -> int:
    source: Any = node.args[0]
    return walk.rank(source)


_RULES: dict[Any, Callable[[Walk, Node], Carried | None]] = {
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
    aten.prelu.default: _prelu,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.scaled_dot_product_attention.default: attend,
    aten.matmul.default: multiply,
    aten.bmm.default: multiply,
    aten.einsum.default: contract,
    aten.reshape.default: reshape,
    aten.view.default: reshape,
    aten._unsafe_view.default: reshape,  # noqa: SLF001 - an operator's name
    aten.flatten.using_ints: reshape,
    aten.unflatten.int: reshape,
    aten.expand.default: expand,
    aten.transpose.int: _moved(_transposed),
    aten.permute.default: _moved(_permuted),
    aten.unsqueeze.default: _moved(_unsqueezed),
    aten.squeeze.dim: _moved(_without),
    aten.select.int: _moved(_without),
    aten.slice.Tensor: _moved(_sliced),
    aten.index_select.default: _moved(_other),
    aten.softmax.int: _moved(_other),
    aten.log_softmax.int: _moved(_other),
    aten.sum.dim_IntList: _moved(_reduced),
    aten.mean.dim: _moved(_reduced),
    aten.amax.default: _moved(_reduced),
    aten.index.Tensor: _moved(_indexed),
}
