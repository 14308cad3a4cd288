"""Which operators of a graph take 16 bits, and why the others stay float32."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.half.ranges import SMALLEST_NORMAL
from optimize.option_values import names_in
from optimize.value_types import read_in_subgraphs
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimize.half.ranges import Range

FLOAT = 1  # onnx.TensorProto.FLOAT
# Operators that only move values, or change their type.
MOVES = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad",
    "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
_ELEMENTWISE = frozenset({
    "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Max", "Mean", "Min", "Mul", "Neg", "PRelu", "Relu", "Sigmoid", "Sub", "Sum", "Tanh", "Where",
})  # fmt: skip
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_QUANTIZES = frozenset({"DequantizeLinear", "QuantizeLinear"})
# Operators that take any type and make whole numbers or truth of it.
UNTYPED = frozenset({"Shape", "Size"})
_MAY_BE_HALF = MOVES | _ELEMENTWISE | _PRODUCTS | _QUANTIZES | {"Cast"}
_REDUCES = frozenset({
    "CumSum", "Einsum", "GlobalAveragePool", "LpNormalization", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare",
})  # fmt: skip
_NORMALIZES = frozenset({
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
    "LogSoftmax", "MeanVarianceNormalization", "RMSNormalization", "Softmax",
})  # fmt: skip
_STEEP = frozenset({"Exp", "Log", "Pow", "Reciprocal", "Softplus", "Sqrt"})
_NAMED = 8  # operators that a note names


@dataclass(frozen=True, slots=True)
class ChosenOperators:
    """What takes 16 bits, and what stays float32 and why.

    Attributes:
        half: Names of nodes.
        kept: By name of the node: the operator and the reason.
    """

    half: frozenset[str]
    kept: dict[str, tuple[str, str]]

    def describe(self) -> str:
        """Say in a line how many operators take 16 bits and which do not."""
        total = len(self.half) + len(self.kept)
        said = []
        for reason in _OF_KINDS:
            kinds = Counter(kind for kind, why in self.kept.values() if why == reason)
            listed = [kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items()]
            said += [f"{', '.join(listed)} ({reason})"] if listed else []
        named = [f"{name} ({why})" for name, (_, why) in self.kept.items() if why not in _OF_KINDS]
        said += named[:_NAMED] + ([f"{len(named) - _NAMED} more"] if len(named) > _NAMED else [])
        stay = f"; float32 stay {'; '.join(said)}" if said else ""
        return f"{len(self.half)} of {total} operators on floats{stay}"


_SUM, _NORMAL, _CURVE, _SCORE, _BETWEEN, _PAIR, _OTHER = (
    "sums of many terms",
    "normalizations",
    "steep curves",
    "the score",
    "between such",
    "with a pair in float32",
    "no 16-bit form here",
)
_OF_KINDS = (_SUM, _NORMAL, _CURVE, _SCORE, _BETWEEN, _PAIR, _OTHER)


def choose_operators(
    model: Any,
    types: Mapping[str, int],
    ranges: Mapping[str, Range],
    *,
    headroom: float | None,
    exclude: str = "",
    tables: bool = True,
) -> ChosenOperators:
    """Choose the operators that take 16 bits.

    Args:
        model: An ``onnx.ModelProto`` whose nodes have names.
        types: Of its values.
        ranges: Of its weights and, where requests were seen, of its activations.
        headroom: How many times larger than what was seen values may become; None if the 16-bit
            type reaches as far as float32 does.
        exclude: Names of nodes or patterns of such, separated by commas.
        tables: Whether tables that are looked up take 16 bits too.

    Raises:
        UserError: A name or pattern in ``exclude`` fits no node.
    """
    graph = _Graph(model, types)
    patterns = names_in(exclude)
    for pattern in patterns:
        if not any(fnmatchcase(each.name, pattern) for each in graph.floats):
            raise UserError(f"exclude names {pattern!r}, which fits no operator on floats")
    kept = {}
    for node in graph.floats:
        reason = "excluded" if any(fnmatchcase(node.name, x) for x in patterns) else None
        reason = reason or graph.by_kind(node) or graph.by_table(node, tables=tables)
        if headroom is not None:
            reason = reason or graph.by_range(node, ranges, headroom)
        if reason:
            kept[node.name] = (node.op_type, reason)
    for nodes, follows, reason in (
        (graph.floats, graph.reads_kept_pair, _PAIR),
        (graph.floats[::-1], graph.is_pair_of, _PAIR),
        (graph.floats, graph.is_between, _BETWEEN),
    ):
        for node in nodes:
            if node.name not in kept and follows(node, kept):
                kept[node.name] = (node.op_type, reason)
    half = frozenset(each.name for each in graph.floats) - kept.keys()
    return ChosenOperators(half, kept)


class _Graph:
    def __init__(self, model: Any, types: Mapping[str, int]) -> None:
        self.types = types
        self.weights = {each.name: each for each in model.graph.initializer}
        self.outputs = {each.name for each in model.graph.output}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.floats = [node for node in model.graph.node if self._values(node)]
        self._float_names = {each.name for each in self.floats}
        self.captured = read_in_subgraphs(model)
        opset = next((x.version for x in model.opset_import if x.domain in {"", "ai.onnx"}), 0)
        self.scales_may_be_half = opset >= 19
        self.last = self._makes_score(model)

    def _values(self, node: Any) -> list[str]:
        if node.op_type in UNTYPED:
            return []
        names = [*node.input, *node.output]
        return [name for name in names if self.types.get(name) == FLOAT]

    def by_kind(self, node: Any) -> str | None:
        kind = node.op_type
        if node.domain not in {"", "ai.onnx"}:
            return f"is an operator of {node.domain}"
        for kinds, reason in ((_REDUCES, _SUM), (_NORMALIZES, _NORMAL), (_STEEP, _CURVE)):
            if kind in kinds:
                return reason
        if kind not in _MAY_BE_HALF or (kind in _QUANTIZES and not self.scales_may_be_half):
            return _OTHER
        if self.captured & {*node.input, *node.output}:
            return "is read by a branch or a loop"
        return _SCORE if node.name in self.last else None

    def by_table(self, node: Any, *, tables: bool) -> str | None:
        looked_up = node.op_type == "Gather" and node.input[0] in self.weights
        return "reads a table" if looked_up and not tables else None

    def by_range(self, node: Any, ranges: Mapping[str, Range], headroom: float) -> str | None:
        import onnx

        if node.op_type in _QUANTIZES and node.input[1] in self.weights:
            scales = np.abs(onnx.numpy_helper.to_array(self.weights[node.input[1]]))
            if scales.min() < SMALLEST_NORMAL:
                return f"has a scale of {scales.min():.2g}"
        for name in self._values(node):
            if name in ranges:
                # Weights are what they are; activations were only seen for some requests.
                room = 1.0 if name in self.weights else headroom
                trouble = ranges[name].trouble(room)
                if trouble:
                    return f"{name} {trouble}"
        return None

    def reads_kept_pair(self, node: Any, kept: Mapping[str, object]) -> bool:
        """Whether a product gets a float32 value of a Q/DQ pair: a cast between would part them."""
        makers = (self.producers.get(name) for name in node.input)
        return node.op_type in _PRODUCTS and any(
            x is not None and x.op_type in _QUANTIZES and x.name in kept for x in makers
        )

    def is_pair_of(self, node: Any, kept: Mapping[str, object]) -> bool:
        """Whether a node of a Q/DQ pair is read by float32 operators alone."""
        readers = [x for name in node.output for x in self.readers.get(name, [])]
        return node.op_type in _QUANTIZES and bool(readers) and all(x.name in kept for x in readers)

    def is_between(self, node: Any, kept: Mapping[str, object]) -> bool:
        """Whether a node only moves what float32 operators make to others of them."""
        if node.op_type not in MOVES:
            return False
        given = [x for x in node.input if self.types.get(x) == FLOAT and x not in self.weights]
        makers = [self.producers.get(name) for name in given]
        readers = [x for name in node.output for x in self.readers.get(name, [])]
        return (
            bool(makers)
            and all(each is not None and each.name in kept for each in makers)
            and all(each.name in kept or each.op_type in MOVES for each in readers)
        )

    def _makes_score(self, model: Any) -> set[str]:
        """Return the last product or sum on each way to the score, and all after it."""
        found: set[str] = set()
        waiting: Sequence[str] = [each.name for each in model.graph.output]
        while waiting:
            after = []
            for name in waiting:
                node = self.producers.get(name)
                if node is None or node.name not in self._float_names - found:
                    continue
                if node.op_type in _PRODUCTS | _REDUCES | _NORMALIZES | _STEEP:
                    found.add(node.name)
                elif node.op_type in (_ELEMENTWISE | MOVES) - {"Gather", "Concat"}:
                    found.add(node.name)
                    after += [x for x in node.input if self.types.get(x) == FLOAT]
            waiting = after
        return found
