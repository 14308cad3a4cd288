"""What a 16-bit graph computes, on a CPU that has no 16-bit operators.

ONNX Runtime's CPU provider runs fp16 operators in float32, without rounding between them, so a
value beyond 65504 stays finite there and becomes infinite on a GPU; bf16 products it does not run
at all. The twin of a graph rounds every 16-bit operator's result to 16 bits by casts of its own,
which the provider keeps. Products are added up in float32, as tensor cores do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimize.half.choosing import MOVES, UNTYPED
from optimize.value_types import open_light, value_types

if TYPE_CHECKING:
    from pathlib import Path


def open_rounded(path: Path, options: Any) -> Any:
    """Open the twin of a graph in an ONNX Runtime session on the CPU."""
    import onnxruntime

    twin = rounded_twin(open_light(path))
    key = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(key, str(path.parent))
    return onnxruntime.InferenceSession(
        twin.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def rounded_twin(model: Any) -> Any:
    """Return a graph that computes in float32 and rounds where ``model`` has 16-bit values.

    Args:
        model: An ``onnx.ModelProto``; it stays as it is. Weights outside of it stay outside.
    """
    import onnx

    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    halves = {int(onnx.TensorProto.FLOAT16), int(onnx.TensorProto.BFLOAT16)}
    types = {name: kind for name, kind in value_types(model).items() if kind in halves}
    full = onnx.TensorProto.FLOAT
    widened: dict[str, str] = {}
    nodes: list[Any] = []

    def cast(source: str, target: str, to: int) -> None:
        nodes.append(onnx.helper.make_node("Cast", [source], [target], to=to))

    for node in twin.graph.node:
        if node.op_type in MOVES | UNTYPED | {"Cast"}:
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            if name in types:
                if name not in widened:
                    widened[name] = f"{name}/widened"
                    cast(name, widened[name], full)
                node.input[place] = widened[name]
        rounded = [(place, name) for place, name in enumerate(node.output) if name in types]
        for place, name in rounded:
            node.output[place] = f"{name}/exact"
        nodes.append(node)
        for _, name in rounded:
            cast(f"{name}/exact", name, types[name])
    del twin.graph.node[:]
    twin.graph.node.extend(nodes)
    del twin.graph.value_info[:]
    return twin
