"""Balance between a layer's input and its matrix, so that both fit in few bits.

One scale serves all of an input's channels. Where one channel is a hundred times as large as the
others, these are left a hundredth of the levels. Dividing each channel by a factor of its own, and
multiplying the matrix's row for it by the same, changes no product. Source: Xiao et al.,
SmoothQuant, arXiv:2211.10438, equation 4. Factors are powers of two here, so that products of
floats are the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.int8.constants import constants_of, is_transposed, set_constant
from optimize.int8.observing import observed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.int8.layers import DenseLayer
    from rankers.requests import Array, Columns

# Of factors: 2^24 loses no bit of float32's range that a ranker uses.
_MOST_DOUBLINGS = 24


@dataclass(frozen=True, slots=True)
class Smoothed:
    """What was balanced.

    Attributes:
        factors: By the input's name, float32 ``[K]``: what each channel was divided by.
        folded: Inputs whose division went into what makes them; the others are multiplied.
    """

    factors: dict[str, Array]
    folded: tuple[str, ...]

    def describe(self) -> str:
        """Say in a few words how many inputs were balanced, and how."""
        multiplied = len(self.factors) - len(self.folded)
        return (
            f"{len(self.factors)} inputs balanced ({len(self.folded)} by what makes them, "
            f"{multiplied} by a multiplication)"
        )


def smooth_layers(
    model: Any,
    layers: Sequence[DenseLayer],
    inputs: Sequence[Columns],
    alpha: float,
    *,
    large: bool = False,
) -> Smoothed:
    """Balance layers' inputs and matrices in place; the graph computes what it did.

    Args:
        model: An ``onnx.ModelProto`` with its weights.
        layers: Of it. Those that read the same input share its factors.
        inputs: Of calibration requests, which say how large channels become.
        alpha: How much of an input's spread goes to the matrix: 0 for none, 1 for all.
        large: Whether weights need a file beside the graph.
    """
    graph = _Graph(model)
    groups: dict[str, list[Any]] = {}
    for name in [each.name for each in layers]:
        node = graph.named(name)
        groups.setdefault(node.input[0], []).append(node)
    largest = _largest(model, [*groups], inputs, large=large) if groups else {}
    factors, folded = {}, []
    for x, nodes in groups.items():
        rows = [np.abs(graph.matrix(node)).max(axis=1) for node in nodes]  # [K] each
        factor = _factors(largest[x], np.max(rows, axis=0), alpha)
        if (factor == 1).all():
            continue
        factors[x] = factor
        for node in nodes:
            graph.scale_rows(node, factor)
        if graph.fold(x, nodes, factor):
            folded.append(x)
        else:
            graph.multiply(x, nodes, 1 / factor)
    return Smoothed(factors, tuple(folded))


def _factors(x: Array, rows: Array, alpha: float) -> Array:
    """Return each channel's factor ``[K]``, from the largest of its values and of its weights."""
    alive = (x > 0) & (rows > 0)
    x, rows = np.where(alive, x, 1.0), np.where(alive, rows, 1.0)
    exponents = np.round(alpha * np.log2(x) - (1 - alpha) * np.log2(rows))
    exponents = np.where(alive, exponents, 0.0)
    if alive.any():  # all alike changes nothing that matters
        exponents = np.where(alive, exponents - np.median(exponents[alive]).round(), 0.0)
    exponents = np.clip(exponents, -_MOST_DOUBLINGS, _MOST_DOUBLINGS)
    factors: Array = np.exp2(exponents).astype(np.float32)
    return factors


def _largest(
    model: Any, names: Sequence[str], inputs: Sequence[Columns], *, large: bool
) -> dict[str, Array]:
    """Return the largest absolute value of each channel, ``[K]``, by name."""
    found: dict[str, Array] = {}
    for values in observed(model, names, inputs, large=large):
        for name, value in values.items():
            most = np.abs(value.reshape(-1, value.shape[-1])).max(axis=0)
            found[name] = np.maximum(found[name], most) if name in found else most
    return found


class _Graph:
    """A model's nodes, and who makes and reads what."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.constants = constants_of(model)
        self.outputs = {each.name for each in model.graph.output}

    def named(self, name: str) -> Any:
        return next(node for node in self.model.graph.node if node.name == name)

    def readers(self, name: str) -> list[Any]:
        return [node for node in self.model.graph.node if name in node.input]

    def maker(self, name: str) -> Any | None:
        return next((node for node in self.model.graph.node if name in node.output), None)

    def matrix(self, node: Any) -> Array:
        """Return a layer's matrix, ``[K, outputs]``."""
        matrix = self.constants[node.input[1]]
        return matrix.T if is_transposed(node) else matrix

    def scale_rows(self, node: Any, factors: Array) -> None:
        """Multiply the matrix's rows, one for each channel of its input."""
        shape = (1, -1) if is_transposed(node) else (-1, 1)
        self._replace(node, 1, self.constants[node.input[1]] * factors.reshape(shape))

    def fold(self, x: str, nodes: Sequence[Any], factors: Array) -> bool:
        """Let what makes an input give it divided; whether it can."""
        if not self._only_for(x, nodes):
            return False
        maker = self.maker(x)
        if maker is not None and maker.op_type == "Relu":
            if not self._only_for(maker.input[0], [maker]):
                return False
            maker = self.maker(maker.input[0])
        return maker is not None and self._divide(maker, factors)

    def multiply(self, x: str, nodes: Sequence[Any], factors: Array) -> None:
        """Put a multiplication between an input and the layers that read it."""
        import onnx

        set_constant(self.model, f"{x}_factors", factors)
        product = onnx.helper.make_node("Mul", [x, f"{x}_factors"], [f"{x}_balanced"])
        places = [place for place, node in enumerate(self.model.graph.node) if node in nodes]
        self.model.graph.node.insert(min(places), product)
        for node in nodes:
            node.input[0] = f"{x}_balanced"

    def _divide(self, maker: Any, factors: Array) -> bool:
        """Divide what a node makes, channel by channel, by its constants; whether it has such."""
        product = self._product(maker)
        if maker.op_type in {"LayerNormalization", "Gemm"} and len(maker.input) == 3:
            held = [(maker, 1), (maker, 2)]
        elif maker.op_type == "MatMul":
            held = [(maker, 1)]
        elif product is not None:
            held = [(product, 1), (maker, next(iter(self._bias_places(maker))))]
        else:
            return False
        if any(node.input[place] not in self.constants for node, place in held):
            return False
        constants = [self.constants[node.input[place]] for node, place in held]
        if constants[-1].shape[-1:] != factors.shape:
            return False
        for (node, place), values in zip(held, constants, strict=True):
            rows = values.ndim > 1 and is_transposed(node)
            self._replace(node, place, values / (factors.reshape(-1, 1) if rows else factors))
        return True

    def _product(self, maker: Any) -> Any | None:
        """Return the MatMul to whose result alone a node adds a constant."""
        places = self._bias_places(maker)
        if len(places) != 1:
            return None
        result = maker.input[1 - places[0]]
        product = self.maker(result)
        if product is None or product.op_type != "MatMul" or not self._only_for(result, [maker]):
            return None
        return product

    def _bias_places(self, node: Any) -> list[int]:
        if node.op_type != "Add":
            return []
        return [each for each in (0, 1) if node.input[each] in self.constants]

    def _replace(self, node: Any, place: int, values: Array) -> None:
        """Give a node another constant; others that read the one before keep it."""
        name = node.input[place]
        values = np.ascontiguousarray(values.astype(np.float32))
        if len(self.readers(name)) > 1 or not self._is_initializer(name):
            name = f"{name}_{node.name or node.output[0]}_balanced"
            node.input[place] = name
        set_constant(self.model, name, values)
        self.constants[name] = values

    def _is_initializer(self, name: str) -> bool:
        return any(each.name == name for each in self.model.graph.initializer)

    def _only_for(self, name: str, nodes: Sequence[Any]) -> bool:
        readers = self.readers(name)
        return name not in self.outputs and all(each in nodes for each in readers)
