"""A graph of two float types: the casts between them, and weights in the type of their reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from optimize.half.choosing import UNTYPED
from optimize.value_types import read_in_subgraphs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

HalfType = Literal["fp16", "bf16"]
_CAST = "Cast"


def elem_type(half: HalfType) -> int:
    """Return the ``onnx.TensorProto.DataType`` of a 16-bit type."""
    import onnx

    kinds = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    return int(kinds[half])


def write_half(
    model: Any, types: Mapping[str, int], chosen: Collection[str], half: HalfType
) -> None:
    """Put operators of a graph into a 16-bit type, in place; its inputs and outputs stay.

    Every value has one type, and casts stand where it changes: what TensorRT calls strongly typed.
    A value between two float32 operators is never cast.

    Args:
        model: An ``onnx.ModelProto``; nodes have names, constants are initializers.
        types: Of its values.
        chosen: The names of the nodes that take 16 bits.
        half: The type.
    """
    writing = _Writing(model, types, chosen, half)
    nodes = []
    for node in model.graph.node:
        nodes += writing.rewritten(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    writing.write_weights()
    del model.graph.value_info[:]  # of the old types


class _Writing:
    def __init__(
        self, model: Any, types: Mapping[str, int], chosen: Collection[str], half: HalfType
    ) -> None:
        import onnx

        self._model = model
        self._chosen = chosen
        self._half, self._full = elem_type(half), int(onnx.TensorProto.FLOAT)
        self._ending = {self._half: f"_{half}", self._full: "_fp32"}
        self._weights = {x.name for x in model.graph.initializer if x.data_type == self._full}
        self._outputs = {each.name for each in model.graph.output}
        self._floats = {name for name, kind in types.items() if kind == self._full}
        self._now: dict[str, int] = dict.fromkeys(self._floats, self._full)
        self._cast: dict[tuple[str, int], str] = {}
        self._wanted: set[str] = set()  # weights of which there is to be a 16-bit form

    def rewritten(self, node: Any) -> list[Any]:
        """Return a node in its type, with the casts that it needs before and after."""
        wanted = self._half if node.name in self._chosen else self._full
        before: list[Any] = []
        if node.op_type == _CAST:
            if wanted == self._half and node.output[0] in self._floats:
                _attribute(node, "to").i = self._half
        elif node.op_type not in UNTYPED:
            for place, name in enumerate(node.input):
                if name in self._floats:
                    node.input[place] = self._as(name, wanted, before)
        after: list[Any] = []
        if wanted == self._half:
            for place, name in enumerate(node.output):
                if name not in self._floats:
                    continue
                if name in self._outputs:
                    node.output[place] = self._cast[name, self._half] = name + self._ending[wanted]
                    after.append(self._cast_node(node.output[place], name, self._full))
                else:
                    self._now[name] = self._half
        return [*before, node, *after]

    def write_weights(self) -> None:
        """Put weights into 16 bits: instead of float32 where nothing reads that any more."""
        import onnx

        still = {name for node in self._model.graph.node for name in node.input}
        still |= self._outputs | read_in_subgraphs(self._model)
        for each in [*self._model.graph.initializer]:
            if each.name not in self._wanted:
                continue
            values = onnx.numpy_helper.to_array(each).astype(_numpy_type(self._half))
            other = onnx.numpy_helper.from_array(values, each.name + self._ending[self._half])
            if each.name in still:
                self._model.graph.initializer.append(other)
            else:
                each.CopyFrom(other)

    def _as(self, name: str, wanted: int, before: list[Any]) -> str:
        if self._now[name] == wanted:
            return name
        if name in self._weights:
            self._wanted.add(name)
            return name + self._ending[wanted]
        if (name, wanted) not in self._cast:
            self._cast[name, wanted] = name + self._ending[wanted]
            before.append(self._cast_node(name, name + self._ending[wanted], wanted))
        return self._cast[name, wanted]

    @staticmethod
    def _cast_node(source: str, target: str, to: int) -> Any:
        import onnx

        return onnx.helper.make_node(_CAST, [source], [target], name=f"{target}_cast", to=to)


def _attribute(node: Any, name: str) -> Any:
    return next(each for each in node.attribute if each.name == name)


def _numpy_type(kind: int) -> Any:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(kind)
