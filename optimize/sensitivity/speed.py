"""How fast each dense layer alone in int8 makes the ONNX graph: measured, each in turn with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.build import run_stage
from optimize.gain import measure_gain
from optimize.int8.layers import opened_model
from optimize.sensitivity.onnx_layers import layers_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from optimize.artifact import Artifact
    from optimize.gain import Speed
    from optimize.sensitivity.layers import Layer
    from rankers.requests import RequestBatch


def measure_layers(
    captured: Artifact,
    layers: Sequence[Layer],
    requests: RequestBatch,
    store: Path,
    *,
    candidates: int,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Speed]:
    """Measure the flat graph with each layer alone in int8 against the graph as it is.

    Args:
        captured: The original.
        layers: Its dense layers; those that are too small to pay are not measured.
        requests: That users and candidates of what is sent are drawn from.
        store: Keeps the graphs.
        candidates: N of the requests.
        progress: Is told what was measured.

    Returns:
        By the layer's name.
    """
    graph = run_stage("export_onnx", {}, captured, store)
    with opened_model(graph) as (_, model):
        found = layers_in(model, layers)
    measured = {}
    for layer in layers:
        others = ",".join(each.name for each, name in found if name != layer.name)
        if not any(name == layer.name for _, name in found):
            continue
        options = {"exclude": others, "keep_last": False}
        made = run_stage("quantize_dynamic", options, graph, store)
        if made.manifest.precision == graph.manifest.precision:  # too small: nothing was quantized
            continue
        gain = measure_gain(made, graph, captured, candidates=[candidates], requests=requests)
        measured[layer.name] = gain.speeds[0]
        progress(f"measured {layer.name}")
    return measured
