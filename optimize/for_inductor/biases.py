"""Biases of linear layers, added by the loop that reads the products anyway.

torch's ``addmm`` copies the bias into every row of its result before it multiplies: a pass over
memory by itself. Inductor fuses an addition with the loop that follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from optimize.flat_graph import arguments, aten

if TYPE_CHECKING:
    from optimize.flat_graph import FlatGraph


def add_biases_in_loops(graph: FlatGraph) -> list[str]:
    """Take the biases out of float32 linear layers, in place; return a line that counts them."""
    number = 0
    for node in graph.module.graph.find_nodes(op="call_function", target=aten.linear.default):
        given = arguments(node)
        bias = graph.held(given["bias"])
        if bias is None or bias.dtype != torch.float32:
            continue
        # x - (-b) is x + b to the last bit. Of a sum Inductor would make an addmm again.
        negative = graph.constant("negative_bias", -bias, node)
        call = graph.module.graph.call_function
        with graph.module.graph.inserting_before(node):
            products = call(aten.linear.default, (given["input"], given["weight"]))
            node.replace_all_uses_with(call(aten.sub.Tensor, (products, negative)))
        number += 1
    graph.clean()
    return [f"biases of {number} linear layers: added by the loops that follow"] if number else []
