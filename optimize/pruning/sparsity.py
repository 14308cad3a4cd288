"""Weights that become zero, in any places or two of every four, held through fine-tuning.

What a weight is worth is how far scores move without it once the layer's other inputs stand in:
w² / [C⁻¹]ᵢᵢ for the covariance C of the inputs, where Wanda has w² Cᵢᵢ and magnitude w². Rows of a
layer get as many zeros each, and the weights that stay of a row are solved for anew by least
squares.
Sources: Sun et al., A Simple and Effective Pruning Approach for Large Language Models (Wanda),
arXiv:2306.11695; Frantar and Alistarh, SparseGPT, arXiv:2301.00774; Mishra et al., Accelerating
Sparse Deep Neural Networks, arXiv:2104.08378 (two of four).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch

from optimize.finetuning.distil import distil
from optimize.finetuning.trainable import trainable_module
from optimize.flat_graph import aten
from optimize.pruning.allocation import regular
from optimize.pruning.coupling import find_coupling
from optimize.pruning.cutting import parameter
from optimize.pruning.prune import plain_answers
from optimize.pruning.statistics import layer_statistics
from optimize.tables.program import open_graph
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from optimize.artifact import Artifact
    from optimize.finetuning.settings import DistilReport, DistilSettings
    from optimize.flat_graph import FlatGraph
    from optimize.pruning.coupling import Layer
    from optimize.pruning.statistics import LayerStatistics
    from rankers.requests import RequestBatch

# Rows of a layer for which one system of equations is solved at a time: 64 of 768 inputs each are
# 300 MB.
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class SparseLayer:
    """One dense layer.

    Attributes:
        name: As the module calls it.
        outputs: Its width.
        inputs: How many it reads.
        zeros: Of its weights.
        bytes: Of its weight, zeros and all.
        reason: Why it is left as it is; empty if it is not.
    """

    name: str
    outputs: int
    inputs: int
    zeros: int
    bytes: int
    reason: str = ""


def sparsify(
    artifact: Artifact,
    requests: RequestBatch,
    tuning: DistilSettings,
    *,
    sparsity: float,
    pattern: str,
    exclude: Sequence[str],
    min_inputs: int,
) -> tuple[FlatGraph, list[SparseLayer], DistilReport | None]:
    """Make weights of an artifact's dense layers zero.

    Args:
        artifact: Of the format ``torch``, of either layout.
        requests: Calibration requests.
        tuning: Of the fine-tuning afterwards, in which zeros stay zeros.
        sparsity: The share of each row that becomes zero; of ``2:4`` it is a half.
        pattern: ``any`` or ``2:4``.
        exclude: Patterns of names of layers to leave, as in a shell.
        min_inputs: Layers of fewer inputs are left.

    Raises:
        UserError: A pattern fits no layer.
    """
    from optimize.torch_program import load_program

    manifest = artifact.manifest
    graph = open_graph(load_program(artifact.model_path), manifest)
    layers = find_coupling(graph).layers
    reasons = _reasons(graph, layers, exclude, min_inputs, pattern)
    statistics = layer_statistics(graph, layers, requests, manifest)
    masks = {}
    for layer in layers:
        if not reasons[layer.key]:
            masks[layer.key] = _make_sparse(graph, layer, statistics[layer.key], sparsity, pattern)
    tuned = None
    if masks and tuning.steps:
        teacher = trainable_module(load_program(artifact.model_path))
        with _masked(graph, masks), plain_answers(graph) as student:
            tuned = distil(student, teacher, requests, manifest, tuning)
    reports = []
    for layer in layers:
        weight = parameter(graph, layer.key)
        (outputs, inputs), zeros = weight.shape, int((weight == 0).sum())
        reports.append(
            SparseLayer(layer.name, outputs, inputs, zeros, weight.nbytes, reasons[layer.key])
        )
    return graph, reports, tuned


def keep_mask(worth: Tensor, sparsity: float, pattern: str) -> Tensor:
    """Return which weights stay, bool of the shape of ``worth`` ``[O, I]``.

    Args:
        worth: Of each weight.
        sparsity: The share of each row that goes, where ``pattern`` is ``any``.
        pattern: ``2:4`` keeps the two best of every four in a row; I is a multiple of 4.
    """
    if pattern == "2:4":
        fours = worth.reshape(len(worth), -1, 4)
        best = fours.topk(2, dim=2).indices
        return torch.zeros_like(fours, dtype=torch.bool).scatter_(2, best, True).view_as(worth)
    stay = worth.shape[1] - int(sparsity * worth.shape[1])
    best = worth.topk(stay, dim=1).indices
    return torch.zeros_like(worth, dtype=torch.bool).scatter_(1, best, True)


def _reasons(
    graph: FlatGraph, layers: Sequence[Layer], exclude: Sequence[str], fewest: int, pattern: str
) -> dict[str, str]:
    """Say of each layer why it is left; nothing of those that are not."""
    for each in exclude:
        if not any(fnmatchcase(layer.name, each) for layer in layers):
            listed = ", ".join(layer.name for layer in layers[:8]) or "none"
            raise UserError(f"no dense layer is called {each!r}; there are {listed}")
    found = {}
    for place, layer in enumerate(layers):
        inputs = parameter(graph, layer.key).shape[1]
        reason = ""
        if any(fnmatchcase(layer.name, each) for each in exclude):
            reason = "left out by its name"
        elif place == len(layers) - 1:
            reason = "it makes the score"
        elif inputs < fewest:
            reason = f"fewer than {fewest} inputs"
        elif pattern == "2:4" and inputs % 4:
            reason = f"{inputs} inputs are no multiple of 4"
        found[layer.key] = reason
    return found


def _make_sparse(
    graph: FlatGraph, layer: Layer, seen: LayerStatistics, sparsity: float, pattern: str
) -> Tensor:
    """Choose the weights of a layer that stay, and solve for them; return which they are."""
    weight = parameter(graph, layer.key)
    bias = None if layer.bias is None else parameter(graph, layer.bias)
    spread = regular(seen.spread(centred=bias is not None))
    old = weight.detach().double()
    mask = keep_mask(old.square() / torch.linalg.inv(spread).diagonal(), sparsity, pattern)
    new = _solved(old, mask, spread)
    with torch.no_grad():
        weight.copy_(new)
        if bias is not None:
            bias += ((old - new) @ seen.mean).to(bias.dtype)
    return mask


def _solved(weight: Tensor, mask: Tensor, spread: Tensor) -> Tensor:
    """Return the weights ``[O, I]`` in the places of the mask that come nearest to a layer's.

    All rows keep as many, so that their systems are of one size.
    """
    stay = int(mask[0].sum())
    places = mask.nonzero()[:, 1].reshape(len(weight), stay)
    found = torch.zeros_like(weight)
    targets = weight @ spread
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        at = places[start : start + _ROWS_AT_ONCE]
        systems = spread[at[:, :, None], at[:, None, :]]  # [rows, stay, stay]
        wanted = targets[start : start + _ROWS_AT_ONCE].gather(1, at)
        solved = torch.linalg.solve(systems, wanted)
        found[start : start + _ROWS_AT_ONCE].scatter_(1, at, solved)
    return found


@contextmanager
def _masked(graph: FlatGraph, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply weights by their masks while they learn, and once for all afterwards."""
    module: Any = graph.module
    products = []
    for key, mask in masks.items():
        for source in list(module.graph.find_nodes(op="get_attr")):
            if str(source.target) != key:
                continue
            readers = list(source.users)
            held = graph.constant("mask", mask.to(parameter(graph, key).dtype), readers[0])
            with module.graph.inserting_before(readers[0]):
                product = module.graph.call_function(aten.mul.Tensor, (source, held))
            for reader in readers:
                reader.replace_input_with(source, product)
            products.append((product, source))
    module.recompile()
    try:
        yield
    finally:
        for product, source in products:
            product.replace_all_uses_with(source)
            module.graph.erase_node(product)
        with torch.no_grad():
            for key, mask in masks.items():
                parameter(graph, key).mul_(mask)
        graph.clean()
