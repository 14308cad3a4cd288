"""How much a request costs: multiply-adds and bytes, and whose they are."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.diagnosis.lookups import find_lookups
from optimize.diagnosis.trace import features_of, tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.fx import Node

    from optimize.diagnosis.trace import Trace
    from rankers.ranker import Ranker
    from rankers.requests import Columns

CANDIDATES = (1, 200)


@dataclass(frozen=True, slots=True)
class Work:
    """What scoring one request costs when operators run one by one, as they are in the graph.

    Multiply-adds are those of matrix products, convolutions and attention, as
    `torch.utils.flop_counter` counts them; elementwise products, sums and recurrent layers do not
    count. Bytes are what operators read and write; views cost
    nothing, a lookup costs the rows that it reads, and a runtime that fuses operators moves less.

    Attributes:
        candidates: N of the request.
        multiply_adds: Of the whole request.
        user_multiply_adds: Those that follow from user features alone: computed N times, needed
            once.
        both_multiply_adds: Those that depend on features of both sides.
        table_bytes: Rows read from tables, and their indices.
        weight_bytes: Parameters and buffers read, once an operator.
        activation_bytes: Read and written in between.
    """

    candidates: int
    multiply_adds: int
    user_multiply_adds: int
    both_multiply_adds: int
    table_bytes: int
    weight_bytes: int
    activation_bytes: int

    @property
    def bytes(self) -> int:
        """Of the whole request."""
        return self.table_bytes + self.weight_bytes + self.activation_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the work as JSON-ready data, with what falls on one candidate."""
        return asdict(self) | {
            "bytes": self.bytes,
            "multiply_adds_per_candidate": self.multiply_adds / self.candidates,
            "bytes_per_candidate": self.bytes / self.candidates,
        }


def count_work(ranker: Ranker, trace: Trace) -> list[Work]:
    """Count what a request of each number of candidates in `CANDIDATES` costs."""
    if not trace.any_rows:
        return []
    users = frozenset(each.name for each in ranker.signature.user)
    found = []
    for number in CANDIDATES:
        with suppress(RuntimeError, IndexError):  # a number of rows that fails is told elsewhere
            found.append(_count(trace, users, _request(ranker, number)))
    return found


def _request(ranker: Ranker, candidates: int) -> Columns:
    """Return one user against N candidates of the evaluation requests, flat."""
    batch = ranker.evaluation
    rows = np.resize(np.arange(batch.rows), candidates)
    user = {name: np.repeat(x[:1], candidates, axis=0) for name, x in batch.user.items()}
    return user | {name: x[rows] for name, x in batch.items.items()}


def _count(trace: Trace, users: frozenset[str], columns: Columns) -> Work:
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    # torch counts the attention kernels of GPUs alone.
    cpu_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    formulas = {cpu_attention: attention}
    features = features_of(trace)
    lookups = {each.node: each for each in find_lookups(trace, features)}
    weights = {
        each.untyped_storage().data_ptr()
        for held in (trace.program.state_dict, trace.program.constants)
        for each in tensors(tuple(held.values()))
    }
    counts: Counter[str] = Counter()

    def run_node(
        node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], target: Callable[..., Any]
    ) -> Any:
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
            value = target(*args, **kwargs)
        multiply_adds = counter.get_total_flops() // 2
        counts[_side(features[node], users)] += multiply_adds
        if node in lookups:
            made = sum(_bytes(each) for each in tensors(value)[:1])
            index = tensors(args[1:])[0]
            counts["table"] += made + _bytes(index)
            counts["activation"] += made
        elif not _is_view(args, value):
            for each in (*tensors(args), *tensors(tuple(kwargs.values()))):
                held = "weight" if each.untyped_storage().data_ptr() in weights else "activation"
                counts[held] += _bytes(each)
            counts["activation"] += sum(_bytes(each) for each in tensors(value))
        return value

    trace.run(columns, run_node)
    return Work(
        candidates=len(next(iter(columns.values()))),
        multiply_adds=counts["none"] + counts["user"] + counts["item"] + counts["both"],
        user_multiply_adds=counts["user"],
        both_multiply_adds=counts["both"],
        table_bytes=counts["table"],
        weight_bytes=counts["weight"],
        activation_bytes=counts["activation"],
    )


def _side(features: frozenset[str], users: frozenset[str]) -> str:
    """Tell whose a value is."""
    if not features:
        return "none"
    if features <= users:
        return "user"
    return "both" if features & users else "item"


def _is_view(args: tuple[Any, ...], value: Any) -> bool:
    """Tell whether all that a node makes lies in the memory of what it reads."""
    made = tensors(value)
    held = {each.untyped_storage().data_ptr() for each in tensors(args)}
    return all(each.untyped_storage().data_ptr() in held for each in made)


def _bytes(tensor: Tensor) -> int:
    """Return what reading a tensor touches: of an expanded one, its memory once."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())
