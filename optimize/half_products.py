"""Matrix products in half precision: weights narrowed once, activations before each product.

What `torch.autocast` does, written into the graph: autocast narrows every weight again in every
call, and a captured graph would replay all of those copies. Sums, activations and everything that
is no product stay float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from optimize.fake_quantization.operator import quantize_dequantize
from optimize.flat_graph import aten

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

    from optimize.artifact import Manifest

Precision = Literal["fp32", "fp16", "bf16"]
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}

_PRODUCTS = {
    aten.linear.default,
    aten.addmm.default,
    aten.mm.default,
    aten.matmul.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten.scaled_dot_product_attention.default,
}
# What gives the same in half precision if its input was: between two products, no need to widen.
_EXACT = {
    aten.relu.default,
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.transpose.int,
    aten.permute.default,
    aten.t.default,
    aten.contiguous.default,
}


def narrow_products(module: GraphModule, precision: Precision) -> int:
    """Let a graph's float32 matrix products run in ``fp16`` or ``bf16``, in place.

    Args:
        module: Of an exported program, whose nodes know their values' dtypes.
        precision: ``fp32`` leaves it as it is.

    Returns:
        How many products were narrowed.
    """
    if precision == "fp32":
        return 0
    narrowing = _Narrowing(module, HALVES[precision])
    products = [each for each in module.graph.nodes if _is_product(each)]
    for each in products:
        narrowing.product(each)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return len(products)


def narrowed_program(
    program: ExportedProgram, manifest: Manifest, precision: Precision
) -> ExportedProgram:
    """Return a program of an artifact with its float32 products in a precision.

    Raises:
        UserError: What was rewritten cannot be exported.
    """
    if precision == "fp32":
        return program
    from optimize.tables.program import open_graph, program_of

    graph = open_graph(program, manifest)
    narrow_products(graph.module, precision)
    return program_of(graph, manifest)


class _Narrowing:
    """Keeps what was narrowed already, so that nothing is twice."""

    def __init__(self, module: GraphModule, dtype: torch.dtype) -> None:
        self._module = module
        self._dtype = dtype
        self._narrow: dict[Node, Node] = {}  # float32 value → the same in half precision

    def product(self, node: Node) -> None:
        """Run a product in half precision, and widen what comes out."""
        graph = self._module.graph
        with graph.inserting_before(node):
            given = [self._argument(each) for each in node.args]
            named = {name: self._argument(each) for name, each in node.kwargs.items()}
            product = graph.call_function(_operator(node), tuple(given), named)
            widened = graph.call_function(aten.to.dtype, (product, torch.float32))
        widened.meta = dict(node.meta)
        node.replace_all_uses_with(widened)
        graph.erase_node(node)
        self._narrow[widened] = product

    def _argument(self, value: Any) -> Any:
        return self.narrowed(value) if _is_float32(value) else value

    def narrowed(self, node: Node) -> Node:
        """Return a float32 value in half precision; the graph inserts where a product stands."""
        if node not in self._narrow:
            self._narrow[node] = self._make(node)
        return self._narrow[node]

    def _make(self, node: Node) -> Node:
        graph = self._module.graph
        if node.op == "get_attr":
            return self._constant(node)
        if node.target is quantize_dequantize or self._came_from_product(node):
            # Of what is rounded to 8 bits the range stays float32, the second of its arguments.
            first, *rest = node.args
            call = graph.call_function(
                _operator(node), (self.narrowed(_node(first)), *rest), node.kwargs
            )
        else:
            call = graph.call_function(aten.to.dtype, (node, self._dtype))
        # Where the value is made, so that every later product may read it.
        node.append(call)
        return call

    def _came_from_product(self, node: Any) -> bool:
        """Whether a value is a narrowed product's, but for operators that change no number."""
        while node not in self._narrow:
            if node.target not in _EXACT or not node.args:
                return False
            node = node.args[0]
        return True

    def _constant(self, node: Node) -> Node:
        value: Any = self._module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        name = f"{str(node.target).replace('.', '_')}_half"
        if not hasattr(self._module, name):
            self._module.register_buffer(name, value.detach().to(self._dtype))
        first = next(iter(self._module.graph.nodes))
        with self._module.graph.inserting_before(first):
            return self._module.graph.get_attr(name)


def _is_product(node: Node) -> bool:
    return node.op == "call_function" and node.target in _PRODUCTS and _is_float32(node)


def _is_float32(value: Any) -> bool:
    """Whether an argument is a float32 tensor of the graph."""
    if not isinstance(value, torch.fx.Node):
        return False
    known = value.meta.get("val")
    return isinstance(known, torch.Tensor) and known.dtype == torch.float32


def _operator(node: Node) -> Any:
    return node.target


def _node(value: Any) -> Node:
    if not isinstance(value, torch.fx.Node):
        raise TypeError(f"{value!r} is no node of the graph")
    return value
