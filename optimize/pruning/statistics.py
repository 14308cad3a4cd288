"""What dense layers read on calibration requests, and how much scores follow from it.

One pass forwards and one back over the requests. No labels are needed: what is asked is how far
scores move, in the units of the loss that fine-tuning goes down: of probabilities and logits,
the divergence between clicks drawn by each, which for small moves is p (1 - p) d² / 2 for a logit
that moves by d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optimize.flat_graph import arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from torch.fx import Node

    from optimize.artifact import Manifest
    from optimize.flat_graph import FlatGraph
    from optimize.pruning.coupling import Layer
    from rankers.requests import RequestBatch

_CHUNK_ROWS = 1024
_CLOSEST = 1e-6


@dataclass(frozen=True)
class LayerStatistics:
    """Of a layer with I inputs, float64.

    Attributes:
        rows: How many inputs it read.
        scored: Candidates that were scored.
        mean: Of the inputs, ``[I]``.
        moment: Mean of the products of inputs, ``[I, I]``.
        sensitivity: Sum of the squared slopes of scores along each input, for each candidate
            scored, ``[I]``.
        output_sensitivity: The same along each output, ``[O]``.
    """

    rows: int
    scored: int
    mean: Tensor
    moment: Tensor
    sensitivity: Tensor
    output_sensitivity: Tensor

    def spread(self, *, centred: bool) -> Tensor:
        """Return the mean of products, of what deviates from the mean if there is a bias."""
        return self.moment - torch.outer(self.mean, self.mean) if centred else self.moment


def layer_statistics(
    graph: FlatGraph, layers: Sequence[Layer], requests: RequestBatch, manifest: Manifest
) -> dict[str, LayerStatistics]:
    """Look at every layer's inputs, and score's slopes along them.

    Args:
        graph: Of the manifest's layout.
        layers: Of the graph.
        requests: To learn from.
        manifest: Knows the layout, and what a score means.

    Returns:
        By the layer's key.
    """
    keys = {node: each.key for each in layers for node in each.nodes}
    sums: dict[str, list[Any]] = {}
    scored = 0
    for chunk in requests.chunks(_CHUNK_ROWS):
        columns = manifest.columns_of(chunk)
        given = {x: torch.from_numpy(np.ascontiguousarray(columns[x])) for x in manifest.inputs}
        scores, ends = _run(graph, given, keys)
        slopes = score_slopes(scores, manifest, [x for _, *both in ends for x in both])
        scored += len(scores)
        for (key, value, _), before, after in zip(ends, slopes[::2], slopes[1::2], strict=True):
            flat = value.detach().reshape(-1, value.shape[-1]).double()
            parts = [len(flat), flat.sum(0), flat.T @ flat, _squares(before), _squares(after)]
            held = sums.get(key)
            sums[key] = parts if held is None else [x + y for x, y in zip(held, parts, strict=True)]
    return {
        key: LayerStatistics(
            rows, scored, total / rows, products / rows, before / scored, after / scored
        )
        for key, (rows, total, products, before, after) in sums.items()
    }


def _run(
    graph: FlatGraph, columns: Mapping[str, Tensor], keys: Mapping[Node, str]
) -> tuple[Tensor, list[tuple[str, Tensor, Tensor]]]:
    """Score columns; return what every layer reads and gives too, values that have a slope."""
    ends: list[tuple[str, Tensor, Tensor]] = []
    sources = {node: arguments(node)["input"] for node in keys}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            if n not in sources:
                return super().run_node(n)
            value = self.env[sources[n]]
            if not value.requires_grad:
                self.env[sources[n]] = value = value.detach().requires_grad_()
            ends.append((keys[n], value, super().run_node(n)))
            return ends[-1][-1]

    with torch.enable_grad():
        found: Any = Recorder(graph.module, garbage_collect_values=False).run(
            *(columns[name] for name in graph.names)
        )
    scores: Tensor = found[0] if isinstance(found, tuple | list) else found
    return scores.reshape(-1), ends


def score_slopes(
    scores: Tensor, manifest: Manifest, values: Sequence[Tensor], signs: Tensor | float = 1.0
) -> list[Tensor]:
    """Return scores' slopes along values, weighted by what a move of each score costs.

    Args:
        scores: ``[candidates]``, with a graph behind them.
        manifest: Says what a score means.
        values: In that graph.
        signs: Of each score in the sum that is derived, ``[candidates]`` of 1 and -1.
    """
    kind = manifest.signature.score
    if kind == "relevance":
        total = (signs * scores).sum()
    else:
        logits = torch.logit(scores, eps=_CLOSEST) if kind == "probability" else scores
        likely = torch.sigmoid(logits.detach())
        total = (signs * logits * (likely * (1 - likely)).sqrt()).sum()
    unique = list({id(x): x for x in values}.values())
    found = torch.autograd.grad(total, unique, allow_unused=True)
    slopes = {
        id(x): torch.zeros_like(x) if y is None else y for x, y in zip(unique, found, strict=True)
    }
    return [slopes[id(x)] for x in values]


def _squares(slopes: Tensor) -> Tensor:
    return slopes.reshape(-1, slopes.shape[-1]).double().square().sum(0)
