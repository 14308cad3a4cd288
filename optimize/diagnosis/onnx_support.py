"""Whether the ONNX exporter knows every operator, without the long way of exporting."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from optimize.diagnosis.finding import Finding, Place
from optimize.diagnosis.trace import place_of, quiet

if TYPE_CHECKING:
    from optimize.diagnosis.trace import Trace

OPSET = 20  # that of the stage `export_onnx`


def examine_onnx(trace: Trace) -> list[Finding]:
    """Take the program apart as the exporter does, and look every operator up in its registry."""
    try:
        with quiet():
            return [_unknown(place) for place in _unknown_operators(trace)]
    except ImportError as error:  # the registry is no public part of torch
        return [
            Finding(
                "not-checked",
                f"this version of torch hides its ONNX registry: {error}",
                "`python -m optimize run` will tell whether it exports to ONNX",
            )
        ]


def _unknown_operators(trace: Trace) -> list[Place]:
    from torch.onnx._internal.exporter import _dispatching, _fx_passes

    registry, table = _registry()
    program = trace.program.run_decompositions(table)
    graph = _fx_passes.remove_assertion_nodes(program.graph_module).graph
    unknown: dict[Place, None] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if _dispatching.dispatch(node, registry)[0] is None and hasattr(node.target, "_schema"):
            unknown.setdefault(place_of(node), None)
    return list(unknown)


@functools.cache
def _registry() -> tuple[Any, Any]:
    """Return what the exporter knows, and how it takes apart what it does not."""
    from torch.onnx._internal.exporter import _decomp, _registration

    registry = _registration.ONNXRegistry.from_torchlib(opset_version=OPSET)
    known = set(_decomp.get_onnx_implemented_overloads(registry))
    return registry, _decomp.create_onnx_friendly_decomposition_table(known)


def _unknown(place: Place) -> Finding:
    return Finding(
        "onnx-unknown-operator",
        f"the ONNX exporter does not know {place.operator}",
        "replace it by simpler operators, or keep the ranker on a torch runtime",
        place=place,
    )
