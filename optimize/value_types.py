"""The element types of all values of an ONNX graph, without reading its weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Constants of up to so many values may be shapes or axes, which decide the shapes of others.
_SMALL = 256


def open_light(path: Path) -> Any:
    """Open an ONNX graph whose large weights, if they lie beside it, stay there.

    Small constants are read: shapes and axes decide what others are.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    model = onnx.load(path, load_external_data=False)
    for each in model.graph.initializer:
        if each.data_location == onnx.TensorProto.EXTERNAL and math.prod(each.dims) <= _SMALL:
            load_external_data_for_tensor(each, str(path.parent))
            each.data_location = onnx.TensorProto.DEFAULT
            del each.external_data[:]
    return model


def value_types(model: Any) -> dict[str, int]:
    """Return the element type (``onnx.TensorProto.DataType``) of each value that has a known one.

    Args:
        model: An ``onnx.ModelProto``; weights may lie outside of it. It stays as it is.
    """
    return {name: kind.elem_type for name, kind in value_tensors(model).items()}


def value_tensors(model: Any) -> dict[str, Any]:
    """Return the ``TypeProto.Tensor`` (type, and shape if known) of each value, by name."""
    import onnx

    graph = onnx.GraphProto(name=model.graph.name)
    for field in ("node", "input", "output"):
        getattr(graph, field).extend(getattr(model.graph, field))
    given = {each.name for each in graph.input}
    for each in model.graph.initializer:
        if math.prod(each.dims) <= _SMALL and each.data_location != onnx.TensorProto.EXTERNAL:
            graph.initializer.append(each)
        if each.name not in given:  # a weight is an input as far as types go
            shape = onnx.helper.make_tensor_value_info(each.name, each.data_type, each.dims)
            graph.input.append(shape)
    light = onnx.ModelProto()
    light.CopyFrom(onnx.ModelProto(ir_version=model.ir_version))
    light.graph.CopyFrom(graph)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    found = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    tensors = {}
    for each in (*found.input, *found.value_info, *found.output):
        if each.type.WhichOneof("value") == "tensor_type":
            tensors[each.name] = each.type.tensor_type
    return tensors


def name_nodes(model: Any) -> None:
    """Give every node of a graph a name of its own; those that have one keep it."""
    taken: set[str] = set()
    for place, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{place}"
        taken.add(node.name)


def constants_as_initializers(model: Any) -> None:
    """Make initializers of a graph's Constant nodes that hold a tensor or numbers."""
    import numpy as np
    import onnx

    kept = []
    for node in model.graph.node:
        held = {each.name: each for each in node.attribute}
        if node.op_type != "Constant" or not held.keys() <= _HELD.keys() | {"value"}:
            kept.append(node)
            continue
        (name, attribute), *_ = held.items()
        if name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
        else:
            value = np.asarray(onnx.helper.get_attribute_value(attribute), _HELD[name])
            tensor = onnx.numpy_helper.from_array(value)
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
    del model.graph.node[:]
    model.graph.node.extend(kept)


_HELD = {"value_float": "float32", "value_floats": "float32"} | {
    "value_int": "int64",
    "value_ints": "int64",
}


def read_in_subgraphs(model: Any) -> set[str]:
    """Return the names of outer values that branches and loop bodies of a graph read."""

    def inner(graph: Any) -> Iterator[str]:
        for node in graph.node:
            yield from node.input
            for attribute in node.attribute:
                for each in (attribute.g, *attribute.graphs):
                    yield from inner(each)
        yield from (each.name for each in graph.output)

    return {
        name
        for node in model.graph.node
        for attribute in node.attribute
        for each in (attribute.g, *attribute.graphs)
        for name in inner(each)
    }
