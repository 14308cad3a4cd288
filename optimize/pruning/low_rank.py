"""Layers whose outputs have to stay, as two of a lower rank: what is between them can be pruned.

A cross layer of DCN-v2 gives as many outputs as it reads, whatever happens. As W ≈ U V it has a
hidden layer of neurons between V and U, which go or stay like any others. Which U and V are best is
told by the data: those that move the scores least on calibration requests, the singular vectors of
D W C½ with C the covariance of the inputs and D the scores' slopes along the outputs.
Sources: Wang et al., DCN V2, arXiv:2008.13535 (cross layers are of low rank once trained); Chen et
al., DRONE: Data-aware Low-rank Compression for Large NLP Models, NeurIPS 2021.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import arguments, aten
from optimize.pruning.allocation import regular, sizes_of
from optimize.pruning.cutting import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from optimize.flat_graph import FlatGraph
    from optimize.pruning.coupling import Coupling, Layer
    from optimize.pruning.statistics import LayerStatistics

_STAYS = ("left out by its name", "its weight is read by")


def full_rank(outputs: int, inputs: int) -> int:
    """Return the rank at which two layers take as many multiply-adds as the one."""
    return outputs * inputs // (outputs + inputs)


def layers_to_factor(coupling: Coupling, min_width: int) -> tuple[Layer, ...]:
    """Return the layers that two of lower rank can stand for, and whose outputs stay.

    Those of which only whole heads can go are among them: a head is much to lose at once, so both
    ways are open, and what costs less for what it saves is taken.
    """
    found = []
    for each in coupling.layers:
        reason = coupling.held.get(each.name, "")
        neurons = Counter(x for x in coupling.places[each.key, 0] if x is not None)
        whole = 1 not in neurons.values()
        rank = full_rank(*sizes_of(coupling, each))
        if whole and rank > max(1, min_width) and not reason.startswith(_STAYS):
            found.append(each)
    return tuple(found)


def factor(
    graph: FlatGraph, layers: Sequence[Layer], statistics: Mapping[str, LayerStatistics]
) -> dict[str, tuple[str, str]]:
    """Replace layers by two each, of as many multiply-adds, in place.

    Returns:
        By the layer's key, the keys of V ``[rank, I]`` and U ``[O, rank]``.
    """
    made = {}
    for layer in layers:
        weight = parameter(graph, layer.key)
        seen = statistics[layer.key]
        bias = None if layer.bias is None else parameter(graph, layer.bias)
        into, out = factors(
            weight.detach(),
            seen.spread(centred=bias is not None),
            seen.output_sensitivity,
            full_rank(*weight.shape),
        )
        if bias is not None:
            with torch.no_grad():
                lost = weight.double() @ seen.mean - out @ (into @ seen.mean)
                bias += lost.to(bias.dtype)
        name = "".join(x if x.isalnum() else "_" for x in layer.name)
        keys = (f"{name}_into", f"{name}_out")
        for key, value in zip(keys, (into, out), strict=True):
            held = torch.nn.Parameter(value.to(weight.dtype).contiguous())
            graph.module.register_parameter(key, held)
        _read_both(graph, layer, keys)
        made[layer.key] = keys
    graph.clean()
    return made


def factors(
    weight: Tensor, spread: Tensor, sensitivity: Tensor, rank: int
) -> tuple[Tensor, Tensor]:
    """Return V ``[rank, I]`` and U ``[O, rank]``, float64, the best for W ``[O, I]``.

    Args:
        weight: W.
        spread: Covariance of the inputs, ``[I, I]``.
        sensitivity: Squared slopes along the outputs, ``[O]``.
        rank: At most the smaller of O and I.
    """
    values, vectors = torch.linalg.eigh(regular(spread))
    values = values.clamp(min=float(values.max()) * 1e-12)
    root = vectors * values.sqrt() @ vectors.T
    back = vectors / values.sqrt() @ vectors.T
    # Outputs that no score follows from still count a little, or U would not be told.
    slopes = (sensitivity + 1e-6 * sensitivity.mean() + 1e-30).sqrt()[:, None]
    left, sizes, right = torch.linalg.svd(slopes * weight.double() @ root, full_matrices=False)
    return right[:rank] @ back, left[:, :rank] * sizes[:rank] / slopes


def _read_both(graph: FlatGraph, layer: Layer, keys: tuple[str, str]) -> None:
    call, read = graph.module.graph.call_function, graph.module.graph.get_attr
    for node in layer.nodes:
        given: dict[str, Any] = arguments(node)
        with graph.module.graph.inserting_before(node):
            inner = call(aten.linear.default, (given["input"], read(keys[0])))
            outer = call(aten.linear.default, (inner, read(keys[1]), given["bias"]))
        node.replace_all_uses_with(outer)
        graph.module.graph.erase_node(node)
