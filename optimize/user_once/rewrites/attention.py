"""Attention of the candidate over the user's keys, in plain operators.

``scaled_dot_product_attention`` is one operator, which would need keys and values repeated for
each candidate. As a product, a softmax and a product, keys are transposed and scaled once a
request, and one user's are broadcast to all candidates.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from optimize.flat_graph import arguments, aten, stand_in

if TYPE_CHECKING:
    from optimize.flat_graph import FlatGraph
    from optimize.user_once.cost import Request


def unfold_attention(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001 - pays
    """Rewrite attention whose keys are the user's and whose queries are not."""
    shapes, sides, done = graph.shapes(), graph.sides(), []
    for node in graph.nodes:
        if node.target is not aten.scaled_dot_product_attention.default:
            continue
        given = arguments(node)
        query, key, value, mask = (given[name] for name in ("query", "key", "value", "attn_mask"))
        if query not in shapes or key not in shapes:
            continue
        plain = not (given["dropout_p"] or given["is_causal"] or given["enable_gqa"])
        if not plain or sides[query] in {"user", "none"} or sides[key] != "user":
            continue
        # A mask of booleans has a rule of its own for rows where nothing is left.
        if mask is not None and graph.run(graph.sample(2))[mask].dtype == torch.bool:
            continue
        width = shapes[query][-1]
        factor = 1 / math.sqrt(width) if given["scale"] is None else given["scale"]
        with graph.module.graph.inserting_before(node):
            call = graph.module.graph.call_function
            turned = call(aten.transpose.int, (key, -2, -1))
            scaled = call(aten.mul.Tensor, (turned, factor))
            logits = call(aten.matmul.default, (query, scaled))
            if mask is not None:
                logits = call(aten.add.Tensor, (logits, mask))
            weights = call(aten.softmax.int, (logits, -1))
            read = call(aten.matmul.default, (weights, value))
        stand_in(node, read, shapes, sides)
        done.append(f"attention over the user's keys, {shapes[key][-2]} of them")
    graph.clean()
    return done
