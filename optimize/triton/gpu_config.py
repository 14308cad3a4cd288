"""What a config.pbtxt says where a model runs on a GPU, in NVIDIA's image.

Not run on a GPU yet (docs/gpu.md): the messages are those of Triton's model_config.proto, and what
they hold is tested as text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from rankers.errors import UserError, nearest
from rankers.wire import wire_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.buckets import Buckets
    from rankers.features import Signature
    from rankers.wire import WireTensor

Accelerator = Literal["none", "cuda", "tensorrt"]
ENGINE_CACHE = "/tmp/rankserve-engines"  # noqa: S108 - inside the server's container


def check_accelerator(accelerator: str, backend: str) -> None:
    """Check that there is such an accelerator behind a backend.

    Raises:
        UserError: There is not.
    """
    if accelerator not in get_args(Accelerator):
        raise UserError(
            f"serving option accelerator is {accelerator!r}; "
            f"{nearest(accelerator, get_args(Accelerator))}"
        )
    if accelerator == "cuda" and backend == "torch_aoti":
        return  # what it is compiled for
    if accelerator != "none" and backend != "onnxruntime":
        raise UserError(
            f"accelerator {accelerator!r} is of the backend onnxruntime; {backend!r} was asked for"
        )


def accelerate(
    config: Any, accelerator: Accelerator, signature: Signature, buckets: Buckets
) -> None:
    """Let a config of Triton's ONNX Runtime backend run on a GPU, in place.

    A GPU's instances use ONNX Runtime's CUDA provider; ``tensorrt`` puts its TensorRT provider
    before that, with one explicit profile from 1 to the greatest bucket: without a profile, each
    new number of candidates would build an engine while a request waits.

    Args:
        config: A ``ModelConfig`` message.
        accelerator: ``none`` leaves it as it is.
        signature: The features.
        buckets: Their greatest is the most candidates, their middle what engines are tuned for.

    Raises:
        UserError: TensorRT was asked for where inputs are ragged: joined requests come as one axis
            whose length is that of all requests together, for which there is no profile.
    """
    if accelerator == "none":
        return
    for group in config.instance_group:
        group.kind = group.KIND_GPU
        group.name = group.name.removesuffix("_cpu") + "_gpu"
    _pin(config)
    if accelerator == "tensorrt":
        if any(each.allow_ragged_batch for each in config.input):
            raise UserError(
                "accelerator 'tensorrt' takes flat artifacts; a user-once one joins requests to "
                "one axis of any length: deploy it with accelerator 'cuda'"
            )
        tensors = wire_tensors(signature)
        chosen = config.optimization.execution_accelerators.gpu_execution_accelerator.add(
            name="tensorrt"
        )
        middle = buckets.sizes[len(buckets.sizes) // 2]
        values = {
            "precision_mode": "FP32",  # a narrower graph says so itself
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": ENGINE_CACHE,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": ENGINE_CACHE,
            "trt_profile_min_shapes": _shapes(tensors, 1, 1),
            "trt_profile_opt_shapes": _shapes(tensors, 1, middle),
            "trt_profile_max_shapes": _shapes(tensors, config.max_batch_size, buckets.greatest),
        }
        for name, value in sorted(values.items()):
            chosen.parameters[name] = value


def use_plan(config: Any, signature: Signature, buckets: Buckets) -> None:
    """Make a config that of a TensorRT plan, with a CUDA graph for each bucket, in place.

    Triton replays a graph for any shape between its lower bound and its own, over whatever is in
    the rest of its buffers. So each lower bound is the graph's own shape: nothing is replayed but
    what was captured, and clients that pad to a bucket get its graph.

    Args:
        config: A ``ModelConfig`` message; its inputs are dense.
        signature: The features.
        buckets: Their sizes are captured, for one request each.

    Raises:
        UserError: Inputs are ragged.
    """
    if any(each.allow_ragged_batch for each in config.input):
        raise UserError("a TensorRT plan takes dense inputs: make it of a flat artifact")
    config.backend = ""
    config.platform = "tensorrt_plan"
    for name in ("threads", "intra_op_thread_count", "inter_op_thread_count"):
        config.parameters.pop(name, None)
    for group in config.instance_group:
        group.kind = group.KIND_GPU
        group.name = group.name.removesuffix("_cpu") + "_gpu"
    _pin(config)
    cuda = config.optimization.cuda
    cuda.graphs = True
    cuda.busy_wait_events = True  # polls for the end instead of sleeping until it is told
    cuda.output_copy_stream = True
    tensors = wire_tensors(signature)
    for size in buckets.sizes:
        spec = cuda.graph_spec.add(batch_size=1)
        spec.graph_lower_bound.batch_size = 1
        for each in tensors:
            dims = [each.width] if each.side == "user" else [size, each.width]
            spec.input[each.name].dim.extend(dims)
            spec.graph_lower_bound.input[each.name].dim.extend(dims)


def _pin(config: Any) -> None:
    config.optimization.input_pinned_memory.enable = True
    config.optimization.output_pinned_memory.enable = True


def _shapes(tensors: Sequence[WireTensor], requests: int, candidates: int) -> str:
    """Return shapes as ONNX Runtime's TensorRT provider reads them: ``name:1x8x2,…``."""
    said = []
    for each in tensors:
        dims = [requests, each.width] if each.side == "user" else [requests, candidates, each.width]
        said.append(f"{each.name}:{'x'.join(map(str, dims))}")
    return ",".join(said)
