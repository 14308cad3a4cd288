"""The dense layers of a program's graph: rounded while it learns, cut to what was learnt after."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch

from optimize.finetuning.rounding import Bits, RoundedInput, RoundedMatrix
from optimize.finetuning.trainable import learn_matrices, weight_of
from optimize.int8.layers import LEAST_WEIGHTS
from optimize.option_values import names_in
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor
    from torch.fx import GraphModule, Node

aten = torch.ops.aten
_VALUES = 65_536  # of an input and a batch, which limits are tried on
INPUT, MATRIX = "rounded_input", "rounded_matrix"


@dataclass(frozen=True)
class Layer:
    """A dense layer of a graph.

    Attributes:
        name: Its matrix's.
        node: The product.
        weight: What holds the matrix.
        x: Its input.
        outputs: The matrix's dimension of outputs.
        size: How many values the matrix has.
    """

    name: str
    node: Node
    weight: Node
    x: Node
    outputs: int
    size: int


def dense_layers(module: GraphModule) -> list[Layer]:
    """Return a graph's products by matrices that it holds, in order."""
    learn_matrices(module)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    layers = []
    for node in module.graph.nodes:
        found = weight_of(node)
        if found is None:
            continue
        weight, x, outputs = found
        matrix = parameters.get(str(weight.target))
        if matrix is not None and matrix.dim() == 2:
            name = str(weight.target)
            layers.append(Layer(name, node, weight, x, outputs, matrix.numel()))
    return layers


def choose(
    layers: Sequence[Layer], *, exclude: str, keep_last: bool
) -> tuple[list[Layer], dict[str, str]]:
    """Choose layers as `optimize.int8.layers.choose_layers` does; say why others are left.

    Raises:
        UserError: A pattern in ``exclude`` fits no layer.
    """
    patterns = names_in(exclude)
    for pattern in patterns:
        if not any(fnmatchcase(each.name, pattern) for each in layers):
            names = ", ".join(each.name for each in layers) or "none"
            raise UserError(
                f"exclude names {pattern!r}, which fits no dense layer; they are {names}"
            )
    chosen, left = [], {}
    for place, each in enumerate(layers):
        if any(fnmatchcase(each.name, pattern) for pattern in patterns):
            left[each.name] = "excluded"
        elif keep_last and place == len(layers) - 1:
            left[each.name] = "last"
        elif each.size < LEAST_WEIGHTS:
            left[each.name] = "small"
        else:
            chosen.append(each)
    return chosen, left


def round_layers(
    module: GraphModule, layers: Sequence[Layer], bits: Bits, seen: Iterable[Sequence[Tensor]]
) -> None:
    """Let layers read their inputs and matrices rounded, in place.

    Args:
        module: A graph.
        layers: Of it.
        bits: In how many.
        seen: Columns by position that inputs' first limits are taken from.
    """
    values = inputs_of(module, {each.x for each in layers}, seen)
    rounded: dict[Node, Node] = {}
    for number, each in enumerate(layers):
        if each.x not in rounded:
            name = f"{INPUT}_{len(rounded)}"
            module.add_submodule(name, RoundedInput(bits, values[each.x]))
            with module.graph.inserting_after(each.x):
                rounded[each.x] = module.graph.call_module(name, (each.x,))
        name = f"{MATRIX}_{number}"
        module.add_submodule(name, RoundedMatrix(bits.weights, each.outputs))
        with module.graph.inserting_before(each.node):
            matrix = module.graph.call_module(name, (each.weight,))
        each.node.replace_input_with(each.weight, matrix)
        each.node.replace_input_with(each.x, rounded[each.x])
    module.graph.lint()
    module.recompile()


def cut_layers(module: GraphModule) -> dict[str, tuple[float, float]]:
    """Take rounding out again, but keep inputs within the limits that were learnt, in place.

    Returns:
        By the input's name the limits.
    """
    found = {}
    for node in [*module.graph.nodes]:
        if node.op != "call_module":
            continue
        target = str(node.target)
        source: Any = node.args[0]
        if target.startswith(MATRIX):
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
        elif target.startswith(INPUT):
            rounded: Any = module.get_submodule(target)
            low, high = rounded.limits().tolist()
            with module.graph.inserting_before(node):
                cut = module.graph.call_function(aten.clamp.default, (source, low, high))
            node.replace_all_uses_with(cut)
            module.graph.erase_node(node)
            found[source.name] = (low, high)
    module.delete_all_unused_submodules()
    module.graph.lint()
    module.recompile()
    return found


def inputs_of(
    module: GraphModule, nodes: set[Node], seen: Iterable[Sequence[Tensor]]
) -> dict[Node, Tensor]:
    """Return the values that nodes had, ``[values]`` each, an even draw where there are many.

    Args:
        module: A graph.
        nodes: Of it.
        seen: Columns by position, several times.
    """
    found: dict[Node, list[Tensor]] = {each: [] for each in nodes}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in found:
                found[n].append(_thinned(value))
            return value

    with torch.no_grad():
        for columns in seen:
            Recorder(module).run(*columns)
    return {node: torch.cat(parts) for node, parts in found.items()}


def _thinned(value: Tensor) -> Tensor:
    """Return some of a tensor's values, its extremes among them."""
    flat = value.flatten()
    if len(flat) <= _VALUES:
        return flat.clone()
    drawn = flat[torch.linspace(0, len(flat) - 1, _VALUES).long()]
    return torch.cat([drawn, flat.min()[None], flat.max()[None]])
