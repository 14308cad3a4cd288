"""What a config.pbtxt says where a model runs on a GPU: embedded, or in NVIDIA's image.

Not run on a GPU yet (docs/gpu.md): the messages are those of Triton's model_config.proto, and what
they hold is tested as text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from optimize.runtimes.onnx_providers import shapes_text
from optimize.triton.tensors import dims_of
from rankers.errors import UserError, nearest
from rankers.wire import wire_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.buckets import Buckets
    from optimize.tensorrt.plan import PlanFacts
    from optimize.tensorrt.profiles import Profile
    from optimize.triton.config import ServingOptions
    from rankers.features import Signature
    from rankers.wire import WireTensor

Accelerator = Literal["none", "cuda", "tensorrt"]
PLATFORM = "tensorrt_plan"
# Each holds buffers of every bucket; with one, Triton's bounded queue forgets to wake up.
PLAN_INSTANCES = 2
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
    if accelerator == "tensorrt" and backend != "onnxruntime":
        raise UserError(
            f"accelerator {accelerator!r} is of the backend onnxruntime; {backend!r} was asked for"
        )


def check_gpus(gpus: tuple[int, ...], accelerator: str) -> None:
    """Check that named GPUs can be used.

    Raises:
        UserError: One is named twice or is no number of a GPU, or there is no accelerator.
    """
    if len(set(gpus)) < len(gpus) or any(each < 0 for each in gpus):
        raise UserError(f"serving option gpus is {gpus}; expected different numbers from 0")
    if gpus and accelerator == "none":
        raise UserError("serving option gpus is of models on a GPU: give an accelerator as well")


def on_gpus(config: Any, gpus: tuple[int, ...]) -> None:
    """Let a config's instances be on GPUs, with pinned buffers, in place.

    Args:
        config: A ``ModelConfig`` message.
        gpus: Each gets the config's count of instances; empty: all that the server sees.
    """
    for group in config.instance_group:
        group.kind = group.KIND_GPU
        group.name = group.name.removesuffix("_cpu").removesuffix("_gpu") + "_gpu"
        group.gpus.extend(gpus)
    config.optimization.input_pinned_memory.enable = True
    config.optimization.output_pinned_memory.enable = True


def accelerate_python(config: Any) -> None:
    """Let a config of the Python backend on GPUs take tensors where they are, in place.

    By default Triton copies what lies on a GPU to the host before Python sees it.
    """
    config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value = "no"
    config.parameters["tensors"].string_value = "dlpack"


def accelerate(
    config: Any, accelerator: Accelerator, signature: Signature, buckets: Buckets
) -> None:
    """Let a config of Triton's ONNX Runtime backend on GPUs run there, in place.

    A GPU's instances use ONNX Runtime's CUDA provider; ``tensorrt`` puts its TensorRT provider
    before that, with one explicit profile from 1 to the greatest bucket: without a profile, each
    new number of candidates would build an engine while a request waits.

    Args:
        config: A ``ModelConfig`` message.
        accelerator: ``none`` and ``cuda`` leave it as it is.
        signature: The features.
        buckets: Their greatest is the most candidates, their middle what engines are tuned for.

    Raises:
        UserError: TensorRT was asked for where inputs are ragged: joined requests come as one axis
            whose length is that of all requests together, for which there is no profile.
    """
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


def engine_profile(options: ServingOptions, signature: Signature) -> Profile:
    """Return the profile of the engine that the serving image builds of an ONNX artifact."""
    from optimize.tensorrt.building import engine_profiles

    buckets = serving_buckets(options)
    (profile,) = engine_profiles(
        signature, buckets, usual=buckets.usual(), requests=options.max_batch_size, mode="one"
    )
    return profile


def serving_buckets(options: ServingOptions) -> Buckets:
    """Return the sizes that a server warms, and its largest."""
    from optimize.buckets import Buckets

    return Buckets(tuple(sorted({*options.warm_up_candidates, options.max_candidates})))


def plan_options(options: ServingOptions, facts: PlanFacts) -> ServingOptions:
    """Return how a plan is served: by what it was built for, whatever else was asked for.

    Every bucket is warmed, so that each graph is captured before the model is READY.
    """
    sizes = [each for each in facts.sizes if each <= options.max_candidates]
    return replace(
        options,
        instances=options.instances or PLAN_INSTANCES,
        max_batch_size=facts.requests,
        max_candidates=min(options.max_candidates, facts.buckets.greatest),
        warm_up_candidates=tuple(sizes or facts.sizes[:1]),
    )


def use_plan(config: Any, signature: Signature, buckets: Buckets, *, profiles: int = 1) -> None:
    """Make a config that of a TensorRT plan, with a CUDA graph for each bucket, in place.

    Triton replays a graph for any shape between its lower bound and its own, over whatever is in
    the rest of its buffers. So each lower bound is the graph's own shape: nothing is replayed but
    what was captured, and clients that pad to a bucket get its graph.

    Args:
        config: A ``ModelConfig`` message; its inputs are dense.
        signature: The features.
        buckets: Their sizes are captured, for one request each.
        profiles: How many the engine has; the backend takes the nearest that fits a request.

    Raises:
        UserError: Inputs are ragged.
    """
    if any(each.allow_ragged_batch for each in config.input):
        raise UserError("a TensorRT plan takes dense inputs: make it of a flat artifact")
    config.backend = ""
    config.platform = PLATFORM
    for name in ("threads", "intra_op_thread_count", "inter_op_thread_count"):
        config.parameters.pop(name, None)
    on_gpus(config, ())
    for group in config.instance_group:
        group.profile.extend(str(place) for place in range(profiles))
    cuda = config.optimization.cuda
    cuda.graphs = True
    cuda.busy_wait_events = True  # polls for the end instead of sleeping until it is told
    cuda.output_copy_stream = True
    tensors = wire_tensors(signature)
    for size in buckets.sizes:
        spec = cuda.graph_spec.add(batch_size=1)
        spec.graph_lower_bound.batch_size = 1
        for each in tensors:
            dims = dims_of(each, size)
            spec.input[each.name].dim.extend(dims)
            spec.graph_lower_bound.input[each.name].dim.extend(dims)


def _shapes(tensors: Sequence[WireTensor], requests: int, candidates: int) -> str:
    return shapes_text({each.name: (requests, *dims_of(each, candidates)) for each in tensors})
