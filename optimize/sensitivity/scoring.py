"""A program's scores of some requests with some of its weights read otherwise.

What is read otherwise stands beside the program while it runs. Its own weights are never written
to, so there is nothing to put back, whatever goes wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optimize.sensitivity.rounding import rounded_input

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph
    from optimize.sensitivity.layers import Product
    from rankers.requests import Array, Columns, RequestBatch

_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class ReadProduct:
    """A layer's product that reads another matrix.

    Attributes:
        product: Where.
        weight: float32 ``[outputs, inputs]``.
        round_input: Whether its input is rounded to uint8, too.
    """

    product: Product
    weight: Tensor
    round_input: bool


@dataclass(frozen=True)
class Changes:
    """What is read otherwise.

    Attributes:
        held: By the node that holds it: what is read in its place, of the same shape.
        products: By the node that multiplies.
    """

    held: Mapping[Node, Tensor] = field(default_factory=dict)
    products: Mapping[Node, ReadProduct] = field(default_factory=dict)

    def __or__(self, other: Changes) -> Changes:
        return Changes({**self.held, **other.held}, {**self.products, **other.products})


class Scorer:
    """Scores requests with a flat graph."""

    def __init__(self, graph: FlatGraph, requests: RequestBatch) -> None:
        self._graph, self._requests = graph, requests

    def score(self, changes: Changes | None = None, columns: Columns | None = None) -> Array:
        """Return scores, float32 ``[ΣN]``.

        Args:
            changes: What is read otherwise; nothing by default.
            columns: Flat columns ``[ΣN, …]`` in place of the requests' own, by name.
        """
        made = changes or Changes()
        scores = []
        start = 0
        for chunk in self._requests.chunks(_CHUNK_ROWS):
            flat = chunk.flat()
            for name, column in (columns or {}).items():
                flat[name] = column[start : start + chunk.rows]
            start += chunk.rows
            given = [torch.from_numpy(np.ascontiguousarray(flat[x])) for x in self._graph.names]
            request = torch.from_numpy(np.repeat(np.arange(len(chunk)), chunk.candidates))
            scores.append(_run(self._graph, given, made, request).reshape(-1).numpy())
        return np.concatenate(scores)


def _run(graph: FlatGraph, given: Sequence[Tensor], changes: Changes, request: Tensor) -> Tensor:
    class Reader(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            if n in changes.held:
                return changes.held[n]
            if n in changes.products:
                args, kwargs = self.fetch_args_kwargs_from_env(n)
                return self.multiply(changes.products[n], [*args], kwargs)
            return super().run_node(n)

        def multiply(self, read: ReadProduct, args: list[Any], kwargs: dict[str, Any]) -> Any:
            product = read.product
            if read.round_input:
                args[product.input_place] = rounded_input(
                    args[product.input_place], product, request
                )
            args[product.weight_place] = read.weight if product.outputs_first else read.weight.T
            target: Any = product.node.target
            return target(*args, **kwargs)

    with torch.no_grad():
        found: Any = Reader(graph.module).run(*given)
    scores: Tensor = found[0] if isinstance(found, tuple | list) else found
    return scores
