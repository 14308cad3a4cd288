"""Rounding put before the dense layers of a program: of their inputs, and of their matrices.

Layers become ``aten.linear`` with a matrix ``[outputs, inputs]`` each, whatever they were: that is
the one form whose outputs are its first dimension, and TensorRT takes scales along no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.fake_quantization.operator import FORMS, Form, Type, quantize_dequantize
from optimize.fake_quantization.ranges import (
    GREATEST,
    Ranges,
    held_exactly,
    matrix_range,
    observed_range,
)
from optimize.finetuning.layers import choose, dense_layers, inputs_of
from optimize.flat_graph import FlatGraph, arguments, aten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor
    from torch.fx import Node

    from optimize.finetuning.layers import Layer

# The names of constants that hold magnitudes.
INPUT, MATRIX = "input_amax", "matrix_amax"


@dataclass(frozen=True, slots=True)
class Placing:
    """What is rounded, and how ranges are made.

    Attributes:
        type: Of 8 bits.
        ranges: How an input's range is made of what was seen.
        percentile: Of magnitudes, in percent.
        exclude: Layers to leave, by names of their matrices or patterns, by commas.
        keep_last: Whether the layer that makes the score stays.
    """

    type: Type = "int8"
    ranges: Ranges = "minmax"
    percentile: float = 99.99
    exclude: str = ""
    keep_last: bool = True


@dataclass(frozen=True, slots=True)
class Placed:
    """What was rounded, and what was left and why.

    Attributes:
        inputs: By the name of a layer's matrix, the magnitude that its input's codes reach to.
        left: By name: the reason.
        learnt: How many inputs keep ranges that `optimize.stages.quantize_aware` taught them.
    """

    inputs: dict[str, float]
    left: dict[str, str]
    learnt: int = 0

    def describe(self) -> str:
        """Say in a line how many layers are rounded, and which are left."""
        left = "; ".join(f"{name} {reason}" for name, reason in self.left.items())
        total = len(self.inputs) + len(self.left)
        return f"{len(self.inputs)} of {total} dense layers" + (f" ({left})" if left else "")


def place(graph: FlatGraph, placing: Placing, seen: Iterable[Sequence[Tensor]]) -> Placed:
    """Round the inputs and matrices of dense layers, in place.

    Args:
        graph: Of a program.
        placing: What is wanted.
        seen: Columns by position that the ranges of inputs are taken from.

    Raises:
        UserError: A pattern in ``exclude`` fits no layer.
    """
    layers, left = choose(
        dense_layers(graph.module), exclude=placing.exclude, keep_last=placing.keep_last
    )
    ranges, learnt = _ranges(graph, layers, placing, seen)
    kept = []
    for each in layers:
        reason = _unfit(graph, each, ranges[each.x])
        if reason:
            left[each.name] = reason
        else:
            kept.append(each)
    form = FORMS[placing.type]
    rounded: dict[Node, Node] = {}
    for each in kept:
        if each.x not in rounded:
            rounded[each.x] = _input(graph, each.x, ranges[each.x], form)
        _layer(graph, each, rounded[each.x], form)
    used = learnt & rounded.keys()
    graph.clean()
    return Placed(
        {each.name: float(ranges[each.x]) for each in kept},
        {each: left[each] for each in left},
        len(used),
    )


def _ranges(
    graph: FlatGraph, layers: Sequence[Layer], placing: Placing, seen: Iterable[Sequence[Tensor]]
) -> tuple[dict[Node, Tensor], set[Node]]:
    """Return the magnitude of each input, not yet rounded where it is not finite."""
    learnt = {each.x: found for each in layers if (found := _learnt(each.x)) is not None}
    ranges = {node: held_exactly(torch.tensor(found)) for node, found in learnt.items()}
    observed = {each.x for each in layers} - learnt.keys()
    if observed:
        for node, values in inputs_of(graph.module, observed, seen).items():
            beyond = not bool(values.isfinite().all()) or float(values.abs().max()) > GREATEST
            ranges[node] = (
                torch.tensor(torch.inf)
                if beyond
                else observed_range(values, placing.ranges, placing.percentile)
            )
    return ranges, {*learnt}


def _learnt(x: Node) -> float | None:
    """Return the magnitude that `optimize.stages.quantize_aware` cut an input at, if it did."""
    if x.target is not aten.clamp.default:
        return None
    given = arguments(x)
    low, high = given["min"], given["max"]
    if not isinstance(low, float) or not isinstance(high, float) or not low <= 0 < high:
        return None
    return max(-low, high)


def _unfit(graph: FlatGraph, layer: Layer, amax: Tensor) -> str | None:
    """Say why a layer cannot be rounded; None if it can."""
    if not bool(amax.isfinite()):
        return f"has inputs beyond {GREATEST:g}"
    matrix = graph.held(layer.weight)
    if matrix is None or matrix.dtype != torch.float32:
        return "is not of float32"
    if not bool(matrix.isfinite().all()):
        return "holds values that are not finite"
    given = arguments(layer.node)
    if given.get("alpha", 1) != 1 or given.get("beta", 1) != 1:
        return "scales its product"
    return None


def _input(graph: FlatGraph, x: Node, amax: Tensor, form: Form) -> Node:
    """Return a layer's input as it is rounded, put after it."""
    with graph.module.graph.inserting_after(x):
        rounded = graph.module.graph.call_function(quantize_dequantize, (x, None, 0, 0))
    held = graph.constant(INPUT, amax, rounded)
    rounded.args = (x, held, form.BITS, form.exponent_bits)
    return rounded


def _layer(graph: FlatGraph, layer: Layer, x: Node, form: Form) -> None:
    """Put ``aten.linear`` of a rounded input and matrix in a layer's place."""
    node, fx = layer.node, graph.module.graph
    held = graph.held(layer.weight)
    if held is None:
        raise AssertionError("a layer was chosen for its matrix")
    weight = layer.weight
    if layer.outputs == 1:
        name = str(weight.target).replace(".", "_") + "_by_output"
        weight, held = graph.constant(name, held.t(), node), held.t()
    amax = graph.constant(MATRIX, matrix_range(held, per_output=form.per_output), node)
    with fx.inserting_before(node):
        matrix = fx.call_function(
            quantize_dequantize, (weight, amax, form.BITS, form.exponent_bits)
        )
        bias, added = _bias(layer, outputs=len(held))
        made = fx.call_function(aten.linear.default, (x, matrix, bias))
        if added is not None:
            made = fx.call_function(aten.add.Tensor, (made, added))
    node.replace_all_uses_with(made)
    fx.erase_node(node)


def _bias(layer: Layer, *, outputs: int) -> tuple[Any, Any]:
    """Return what a layer adds that ``aten.linear`` takes as a bias, and what it does not."""
    given = arguments(layer.node)
    if layer.node.target is aten.linear.default:
        return given["bias"], None
    added = given["self"] if layer.node.target is aten.addmm.default else None
    known = getattr(added, "meta", {}).get("val")
    fits = isinstance(known, torch.Tensor) and tuple(known.shape) == (outputs,)
    return (added, None) if fits else (None, added)
