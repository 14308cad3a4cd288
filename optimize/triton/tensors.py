"""Tensors in Triton's messages: what it calls their types, and samples that warm a model up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Dtype
    from rankers.wire import WireTensor

TYPES: dict[Dtype, str] = {
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "float64": "TYPE_FP64",
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "bool": "TYPE_BOOL",
}


def dims_of(tensor: WireTensor, candidates: int = -1) -> list[int]:
    """Return a tensor's shape in one request; -1 stands for any number of candidates."""
    return [tensor.width] if tensor.side == "user" else [candidates, tensor.width]


def warm_up(name: str, requests: int, inputs: Mapping[str, tuple[Dtype, Sequence[int]]]) -> Any:
    """Return a ``ModelWarmup`` of zeros: the one value that every ID feature has.

    Args:
        name: Of the sample, in the server's log.
        requests: That are joined into one run.
        inputs: Each tensor's dtype and shape in one request, by name.
    """
    from tritonclient.grpc import model_config_pb2 as pb

    sample = pb.ModelWarmup(name=name, batch_size=requests, count=2)
    for each, (dtype, dims) in inputs.items():
        sample.inputs[each].CopyFrom(
            pb.ModelWarmup.Input(data_type=TYPES[dtype], dims=dims, zero_data=True)
        )
    return sample
