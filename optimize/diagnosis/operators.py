"""Operators that runtimes run slowly or not at all: the table, and who of it is in a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.diagnosis.finding import Finding, Place
from optimize.diagnosis.trace import features_of, operator_name, place_of, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.fx import Node

    from optimize.diagnosis.trace import Trace
    from rankers.ranker import Ranker

ORT, TRT = "ONNX Runtime", "TensorRT"


@dataclass(frozen=True, slots=True)
class Trap:
    """Operators that have the same trouble.

    Attributes:
        code: A key of `optimize.diagnosis.finding.CODES`.
        operators: Their names without ``aten.``; those that are told by more than a name have none.
        targets: The runtimes that it concerns.
        reason: What goes wrong there.
        remedy: What to do.
    """

    code: str
    operators: tuple[str, ...]
    targets: tuple[str, ...]
    reason: str
    remedy: str


TRAPS: tuple[Trap, ...] = (
    Trap(
        "embedding-bag",
        ("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"),
        (ORT, TRT),
        "bags of one length become gathers on export; others become a loop, which TensorRT refuses",
        "pad the bags ([rows, L]): embed, multiply by the mask, sum over L; rankers.bags makes "
        "such rows",
    ),
    Trap(
        "shape-from-values",
        (
            *("nonzero", "nonzero_numpy", "masked_select", "unique", "_unique", "_unique2"),
            *("unique_dim", "unique_consecutive", "item", "_local_scalar_dense", "bincount"),
        ),
        (ORT, TRT),
        "sizes that depend on values rule out CUDA graphs and a memory plan, and TensorRT takes "
        "few such operators",
        "keep every row and mask: torch.where, or a multiplication by the mask",
    ),
    Trap(
        "control-flow",
        ("cond", "while_loop", "scan", "map_impl", "associative_scan"),
        (ORT, TRT),
        "a loop or a branch is decided on the host at every run, and rules out CUDA graphs",
        "compute both and choose with torch.where; unroll loops of fixed length",
    ),
    Trap(
        "complex",
        (),
        (ORT, TRT),
        "there is no complex type: the exporter takes real and imaginary parts apart, or gives up",
        "write it with real numbers",
    ),
    Trap(
        "float64",
        (),
        (ORT, TRT),
        "double precision moves twice the bytes, and TensorRT does not compute in it",
        "make constants and buffers float32 (a Python list or NumPy array becomes float64)",
    ),
    Trap(
        "column-vectors",
        ("matmul", "bmm", "baddbmm"),
        (ORT,),
        "a product with a column vector for every row runs as many tiny products",
        "with a shared matrix write x @ W.T over [rows, D]; for dots write (a * b).sum(-1)",
    ),
    Trap(
        "sort",
        ("sort", "argsort", "topk", "msort", "kthvalue", "median"),
        (TRT,),
        "it costs more than the layers around it, and TensorRT's TopK ends at 3840 elements",
        "sort when the request is made, not for each candidate",
    ),
    Trap(
        "scatter",
        (
            *("scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce"),
            *("index_put", "index_put_", "index_add", "index_add_", "index_copy"),
        ),
        (ORT, TRT),
        "scattered writes copy the whole tensor and run on few cores",
        "gather instead: build the result with torch.where, cat or a one-hot product",
    ),
)
BY_CODE: Mapping[str, Trap] = {each.code: each for each in TRAPS}
_BY_OPERATOR = {
    operator: each for each in TRAPS if each.code != "column-vectors" for operator in each.operators
}


def examine_operators(ranker: Ranker, trace: Trace | None) -> list[Finding]:
    """Find every trap in a ranker, each place once."""
    if trace is None:
        return _bag_modules(ranker)
    tests: dict[str, Callable[[Node], bool]] = {
        "complex": lambda node: any(each.is_complex() for each in tensors(node.meta.get("val"))),
        "float64": _is_double,
        "column-vectors": _has_column_vectors(trace),
        "shape-from-values": _is_masked,
    }
    places: dict[str, dict[Place, None]] = {}
    for node in trace.operators:
        name = operator_name(node).rpartition(".")[2]
        trap = _BY_OPERATOR.get(name)
        codes = [trap.code] if trap else []
        codes += [code for code, is_one in tests.items() if is_one(node) and code not in codes]
        for code in codes:
            places.setdefault(code, {}).setdefault(place_of(node), None)
    return [_finding(BY_CODE[code], list(found)) for code, found in places.items()]


def _finding(trap: Trap, places: list[Place]) -> Finding:
    """Say a trap once, with its first place, and how many more there are."""
    more = f" (and in {len(places) - 1} more)" if len(places) > 1 else ""
    return Finding(
        trap.code,
        f"{places[0].operator}{more}: in {' and '.join(trap.targets)} {trap.reason}",
        trap.remedy,
        place=places[0],
    )


def _is_double(node: Node) -> bool:
    """Tell whether a node makes doubles; numbers and single values in passing cost nothing."""
    import torch

    return any(
        each.dtype == torch.float64 and each.dim() > 0 for each in tensors(node.meta.get("val"))
    )


def _is_masked(node: Node) -> bool:
    """Tell whether a node picks the elements at which a mask is true."""
    import torch

    if operator_name(node) != "aten.index":
        return False
    indices: Any = node.args[1]
    return any(
        each.dtype == torch.bool
        for index in indices
        for each in tensors(getattr(index, "meta", {}).get("val"))
    )


def _has_column_vectors(trace: Trace) -> Callable[[Node], bool]:
    """Tell a product with a column vector for every row: ``[…, K, 1]`` on the right."""
    features = features_of(trace)
    operators = BY_CODE["column-vectors"].operators

    def is_one(node: Node) -> bool:
        if operator_name(node).rpartition(".")[2] not in operators:
            return False
        right = node.all_input_nodes[-1]
        (value,) = tensors(right.meta.get("val"))
        if value.dim() < 3 or not features[right]:
            return False
        depth, width = value.shape[-2:]
        return isinstance(width, int) and width == 1 and depth != 1

    return is_one


def _bag_modules(ranker: Ranker) -> list[Finding]:
    """Find what can be told from the modules alone."""
    from torch import nn

    places = [
        Place(path, type(module).__name__)
        for path, module in ranker.module.named_modules()
        if isinstance(module, nn.EmbeddingBag)
    ]
    return [_finding(BY_CODE["embedding-bag"], places)] if places else []
