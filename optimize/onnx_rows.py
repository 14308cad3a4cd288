"""Layers of ``[rows, length, K]`` as layers of ``[rows·length, K]``: a rewrite of an ONNX graph.

ONNX Runtime adds a bias to a tensor of three dimensions row by row, and its own fusion of an
addition with the normalization behind it, which knows three dimensions alone, is slower than the
two apart. Of two dimensions product and bias are one ``Gemm``, with a ReLU inside, and the fusion
leaves the graph alone, whoever opens it. Other operators with a vector of ``[K]`` go over
``[rows, length·K]``, with the vector repeated: ONNX Runtime broadcasts long rows faster.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# Of one input, element by element.
_UNARY = {"Elu", "Erf", "Gelu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Tanh"}
# Of two, which broadcast.
_BINARY = {"Add", "Div", "Mul", "Sub"}
# A vector that is repeated stays in a core's nearest caches.
_MOST_REPEATED = 2**13


def layers_as_rows(model: Any) -> int:
    """Rewrite linear layers of more than two dimensions, and what stands between them, in place.

    A value is reshaped to rows before the first layer and back where something reads it as it was.

    Args:
        model: An ``onnxscript.ir.Model`` whose values have shapes.

    Returns:
        How many nodes were rewritten: 0 of a graph that is as it was.
    """
    from onnxscript.ir.passes.common import RemoveUnusedNodesPass

    rewriting = _Rewriting(model.graph)
    for node in list(model.graph):
        rewriting.visit(node)
    RemoveUnusedNodesPass()(model)
    return rewriting.count


class _Rewriting:
    def __init__(self, graph: Any) -> None:
        self.count = 0
        self._graph = graph
        # By a value of [..., K]: the same as [rows, K].
        self._rows: dict[Any, Any] = {}

    def visit(self, node: Any) -> None:
        """Rewrite a node if it is a layer or stands behind one; call in the graph's order."""
        from onnxscript import ir

        kind = node.op_type
        if node.domain not in ("", "ai.onnx"):
            return
        if kind == "Reshape":
            self._reshape(node)
        elif len(_dims(node.outputs[0])) < 3 or node.outputs[0].dtype != ir.DataType.FLOAT:
            return
        elif kind == "MatMul":
            self._product(node)
        elif kind == "LayerNormalization":
            self._normalization(node)
        elif kind in _UNARY and node.inputs[0] in self._rows:
            self._replace(node, kind, [self._rows[node.inputs[0]]])
        elif kind in _BINARY:
            self._elementwise(node)

    def _product(self, node: Any) -> None:
        x, weight = node.inputs
        if not weight.is_initializer() or len(weight.shape) != 2 or not _dims(x):
            return
        add, bias = _bias_behind(node)
        if add is not None:
            self._replace(add, "Gemm", [self._as_rows(x, add), weight, bias])
        elif x in self._rows:
            self._replace(node, "MatMul", [self._rows[x], weight])

    def _normalization(self, node: Any) -> None:
        x, *rest = node.inputs
        dims = _dims(x)
        axis = node.attributes.get_int("axis", -1)
        if len(node.outputs) == 1 and dims and axis in (-1, len(dims) - 1):
            self._replace(node, node.op_type, [self._as_rows(x, node), *rest], axis=-1)

    def _elementwise(self, node: Any) -> None:
        # Of the whole shape, or of a row: what is broadcast otherwise stays as it is.
        whole = _dims(node.outputs[0])
        full = [each for each in node.inputs if _dims(each) == whole]
        others = [each for each in node.inputs if _dims(each) != whole]
        length = prod(whole[1:-1]) if all(isinstance(x, int) for x in whole[1:]) else 1
        if len(others) == 1 and _repeats_well(others[0], whole[-1], length):
            wide = self._constant((-1, length * whole[-1]))
            x = self._insert(node, "Reshape", [self._rows.get(full[0], full[0]), wide])
            inputs = [
                x if each is full[0] else self._repeated(each, length) for each in node.inputs
            ]
            self._replace(node, node.op_type, inputs, wide=True)
        elif any(each in self._rows for each in full) and all(map(_of_a_row, others)):
            inputs = [self._as_rows(x, node) if x in full else x for x in node.inputs]
            self._replace(node, node.op_type, inputs)

    def _repeated(self, vector: Any, times: int) -> Any:
        values = np.tile(vector.const_value.numpy(), times)
        return self._weight(f"rows/{vector.name}/{times}", values)

    def _reshape(self, node: Any) -> None:
        x, shape = node.inputs
        stated = shape.const_value
        # A 0 is a dimension of what came in.
        if x in self._rows and stated is not None and 0 not in stated.numpy():
            node.replace_input_with(0, self._rows[x])

    def _as_rows(self, value: Any, before: Any) -> Any:
        if value not in self._rows:
            shape = self._constant((-1, _dims(value)[-1]))
            maker = value.producer()
            source = maker.inputs[0] if maker and maker.op_type == "Reshape" else value
            self._rows[value] = self._insert(before, "Reshape", [source, shape])
        return self._rows[value]

    def _replace(
        self, node: Any, kind: str, inputs: Sequence[Any], *, wide: bool = False, **attributes: Any
    ) -> None:
        """Compute a node's output from rows, and shape it back for those who want it so.

        Args:
            node: Removed.
            kind: Of the node in its place.
            inputs: Of that.
            wide: Whether it gives wide rows, which are still to be made rows of ``[K]``.
            attributes: Of it, besides those of ``node`` if it is of the same kind.
        """
        from onnxscript import ir

        old = node.outputs[0]
        dims = _dims(old)
        given = dict(node.attributes) if kind == node.op_type else {}
        given |= {each.name: each for each in ir.convenience.convert_attributes(attributes)}
        rows = self._insert(node, kind, inputs, [*given.values()])
        if wide:
            rows = self._insert(node, "Reshape", [rows, self._constant((-1, dims[-1]))])
        free = tuple(x if isinstance(x, int) else -1 for x in dims)
        back = self._insert(node, "Reshape", [rows, self._constant(free)])
        ir.convenience.replace_nodes_and_values(self._graph, node, [node], [], [old], [back])
        self._rows[back] = rows
        self.count += 1

    def _insert(
        self, before: Any, kind: str, inputs: Sequence[Any], attributes: Sequence[Any] = ()
    ) -> Any:
        from onnxscript import ir

        node = ir.Node("", kind, inputs, attributes, num_outputs=1)
        self._graph.insert_before(before, node)
        return node.outputs[0]

    def _constant(self, dims: tuple[int, ...]) -> Any:
        return self._weight("rows/" + "x".join(map(str, dims)), np.array(dims, np.int64))

    def _weight(self, name: str, values: Any) -> Any:
        from onnxscript import ir

        if name not in self._graph.initializers:
            tensor = ir.tensor(values, name=name)
            self._graph.register_initializer(ir.Value(name=name, const_value=tensor))
        return self._graph.initializers[name]


def _dims(value: Any) -> tuple[Any, ...]:
    """Return a shape of which one size at most is open, and not the last; () of others."""
    if value is None or value.shape is None:
        return ()
    dims = tuple(x if isinstance(x, int) else x.value for x in value.shape)
    known = [isinstance(x, int) for x in dims]
    # A name says that two are the same; none says nothing.
    fits = known and known[-1] and known.count(False) <= 1 and None not in dims
    return dims if fits and 0 not in dims else ()


def _of_a_row(value: Any) -> bool:
    """Whether a value is broadcast along the last dimension alone."""
    return value.shape is not None and len(value.shape) < 2


def _repeats_well(value: Any, width: int, times: int) -> bool:
    """Whether a value is a vector of constants, and short enough to be repeated."""
    short = 1 < times <= _MOST_REPEATED // width and value.is_initializer()
    return short and tuple(value.shape) == (width,) and width > 1


def _bias_behind(product: Any) -> tuple[Any, Any]:
    """Return the addition that alone reads a product, and the vector that it adds, or Nones."""
    result = product.outputs[0]
    readers = result.uses()
    if len(readers) != 1 or result.is_graph_output():
        return None, None
    node = readers[0].node
    if node.op_type != "Add" or node.domain not in ("", "ai.onnx"):
        return None, None
    bias = node.inputs[1 - readers[0].idx]
    width = product.inputs[1].shape[1]
    fits = bias.is_initializer() and tuple(bias.shape) == (width,)
    return (node, bias) if fits else (None, None)
