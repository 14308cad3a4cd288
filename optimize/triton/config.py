"""config.pbtxt, written as the protobuf message that Triton reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from optimize.gpu_graphs import GRAPHS, ONNX_BUCKETS
from optimize.tensorrt.plan import FORMAT, PlanFacts
from optimize.triton.gpu_config import (
    PLAN_INSTANCES,
    PLATFORM,
    Accelerator,
    accelerate,
    accelerate_python,
    check_accelerator,
    check_gpus,
    on_gpus,
    plan_options,
    serving_buckets,
    use_plan,
)
from optimize.triton.ragged_graph import ITEM_ENDS, ragged_source
from optimize.triton.tensors import TYPES, dims_of, warm_up
from rankers.errors import UserError, nearest
from rankers.wire import SCORE, wire_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optimize.artifact import Artifact
    from rankers.wire import WireTensor

CONFIG = "config.pbtxt"
# The parameter that tells which artifact a version holds ends in the version's number.
ARTIFACT_PARAMETER = "artifact."
LEAST_INSTANCES = 2

Backend = Literal["python", "onnxruntime", "tensorrt", "torch_aoti"]


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How a model is served.

    Attributes:
        backend: ``python`` runs in the embedded server and joins requests of any sizes.
            ``onnxruntime`` is Triton's own, in C++ and only in NVIDIA's image; it joins requests
            of equal numbers of candidates, and the checks of values are left to the client
            (docs/decisions/002-packed-wire-form.md). ``tensorrt`` runs plans, on a GPU of the model
            that built them; the plan says how many requests are joined, and its buckets are warmed.
            Of an ONNX artifact the engine is built where it serves (Dockerfile.triton).
            ``torch_aoti`` is the PyTorch backend of the same image with code compiled by
            AOTInductor; it runs one request at a time (optimize/triton/aoti.py).
        instances: That each run one batch at a time (processes, or sessions of one process behind
            ``onnxruntime``); by default one a physical core, or 2 on each GPU, and 2 at least: with
            one, Triton's bounded queue forgets to wake up
            (docs/decisions/004-bounded-queues-stall.md).
        threads: That the runtime uses within one instance.
        max_batch_size: Requests (not rows) joined into one run at most.
        max_queue_delay_us: How long a batch waits for company. 0 joins only what waits already.
        queue_size: Requests that may wait; more are refused at once instead of growing the queue.
            0 leaves the queue without bounds, in time too: no request is ever forgotten for half a
            second then (docs/decisions/004-bounded-queues-stall.md), but callers without a deadline
            can grow it.
        queue_timeout_ms: How long one may wait before it is refused. Clients may ask for less.
            Triton looks at it every 500 ms.
        max_candidates: The largest request that is answered.
        warm_up_candidates: Request sizes that every instance runs before the model is READY; of an
            artifact with buckets, those are run instead.
        keep_versions: Deployed versions that are kept; older ones are removed.
        accelerator: ``cuda`` puts instances on GPUs. ``tensorrt`` does too, with that provider of
            ONNX Runtime, behind the backend ``onnxruntime`` (optimize/triton/gpu_config.py).
        gpus: Which ones, by number; each gets as many instances. Empty: all that the server sees.
    """

    backend: Backend = "python"
    instances: int | None = None
    threads: int = 1
    max_batch_size: int = 16
    max_queue_delay_us: int = 0
    queue_size: int = 128
    queue_timeout_ms: float = 1000.0
    max_candidates: int = 4096
    warm_up_candidates: tuple[int, ...] = field(default=(1, 20, 100, 700))
    keep_versions: int = 3
    accelerator: Accelerator = "none"
    gpus: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise UserError(
                f"serving option backend is {self.backend!r}; "
                f"{nearest(self.backend, get_args(Backend))}"
            )
        check_accelerator(self.accelerator, self.backend)
        check_gpus(self.gpus, self.accelerator)
        for name, least in (
            ("instances", LEAST_INSTANCES),
            ("threads", 1),
            ("max_batch_size", 1),
            ("max_queue_delay_us", 0),
            ("queue_size", 0),
            ("max_candidates", 1),
            ("keep_versions", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"serving option {name} is {value}; it is {least} or more")
        if self.queue_timeout_ms <= 0:
            raise UserError(
                f"serving option queue_timeout_ms is {self.queue_timeout_ms}; it is above 0"
            )
        for size in self.warm_up_candidates:
            if not 1 <= size <= self.max_candidates:
                raise UserError(
                    f"serving option warm_up_candidates holds {size}; sizes run from 1 to "
                    f"max_candidates, {self.max_candidates}"
                )


def serving_config(
    artifact: Artifact, name: str, options: ServingOptions, artifacts: Mapping[int, str]
) -> Any:
    """Return the ``ModelConfig`` message of an artifact behind a backend.

    Args:
        artifact: What is deployed.
        name: The model's name in the repository.
        options: How it is served.
        artifacts: The manifest's SHA-256 of every version, by version number.
    """
    from tritonclient.grpc import model_config_pb2 as pb

    signature = artifact.manifest.signature
    tensors = wire_tensors(signature)
    plan = PlanFacts.of(artifact.manifest) if artifact.manifest.format == FORMAT else None
    if plan is not None:
        options = plan_options(options, plan)
    elif options.backend == "tensorrt":
        options = replace(options, instances=options.instances or PLAN_INSTANCES)
    once = artifact.manifest.layout == "user_once"
    ragged = options.backend == "python" or (options.backend == "onnxruntime" and once)
    config = pb.ModelConfig(
        name=name,
        backend=options.backend,
        max_batch_size=options.max_batch_size,
        input=[
            pb.ModelInput(
                name=each.name,
                data_type=TYPES[each.dtype],
                # Requests are the batch dimension: [1, W] and [1, N, W] with N of its own each.
                dims=dims_of(each),
                # ONNX Runtime's backend flattens ragged tensors to one axis, which the graph of a
                # user-once artifact takes; without them Triton joins only requests of one N.
                allow_ragged_batch=each.side == "item" and ragged,
            )
            for each in tensors
        ],
        output=[pb.ModelOutput(name=SCORE, data_type="TYPE_FP32", dims=[-1])],
        instance_group=[
            pb.ModelInstanceGroup(
                kind="KIND_CPU",
                count=options.instances or _usual_instances(options),
                name=f"{name}_cpu",
            )
        ],
        dynamic_batching=pb.ModelDynamicBatching(
            max_queue_delay_microseconds=options.max_queue_delay_us,
            # Both limits of the default policy are 0, which is to say none: overload would grow
            # the queue for ever.
            default_queue_policy=None
            if options.queue_size == 0
            else pb.ModelQueuePolicy(
                timeout_action="REJECT",
                default_timeout_microseconds=round(options.queue_timeout_ms * 1000),
                allow_timeout_override=True,
                max_queue_size=options.queue_size,
            ),
        ),
        model_warmup=[_warm_up(tensors, 1, size) for size in _warmed_sizes(artifact, options)]
        + (
            [_warm_up(tensors, options.max_batch_size, min(20, options.max_candidates))]
            if options.max_batch_size > 1
            else []
        ),
    )
    if ragged and options.backend == "onnxruntime":
        _set_ragged(config, ragged_source(signature).name)
    buckets = serving_buckets(options) if plan is None else plan.buckets
    if options.accelerator != "none":
        on_gpus(config, options.gpus)
        accelerate(config, options.accelerator, signature, buckets)
        if options.backend == "python":
            accelerate_python(config)
    _set_parameters(config, artifact, options, artifacts)
    if options.backend == "tensorrt":
        use_plan(config, signature, buckets, profiles=1 if plan is None else len(plan.profiles))
    return config


def backend_of(config: Any) -> str:
    """Return the backend of `ServingOptions` that a config is for."""
    return "tensorrt" if config.platform == PLATFORM else str(config.backend)


def config_text(config: Any) -> str:
    """Return the text form of a ``ModelConfig`` message."""
    from google.protobuf import text_format

    text: str = text_format.MessageToString(config)
    return text


def read_config(text: str, where: object) -> Any:
    """Read a config.pbtxt.

    Raises:
        UserError: It is not one.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise UserError(f"{where}: not a Triton config: {error}") from error


def _usual_instances(options: ServingOptions) -> int:
    from optimize.runtimes import physical_cores

    # On a GPU more processes mean more copies of the weights and of CUDA's own memory.
    return (
        LEAST_INSTANCES if options.accelerator != "none" else max(LEAST_INSTANCES, physical_cores())
    )


def _warmed_sizes(artifact: Artifact, options: ServingOptions) -> tuple[int, ...]:
    """Return the sizes to warm up: every bucket that a request can reach, if there are buckets."""
    settings = artifact.manifest.settings
    stated = settings.get(GRAPHS) or settings.get(ONNX_BUCKETS)
    if stated is None:
        return options.warm_up_candidates
    most = options.max_candidates
    return tuple(sorted({min(size, most) for size in stated["sizes"]}))


def _set_ragged(config: Any, source: str) -> None:
    """Say where requests end in flattened inputs, and how scores are cut for them."""
    from tritonclient.grpc import model_config_pb2 as pb

    config.batch_input.append(
        pb.BatchInput(
            kind="BATCH_ACCUMULATED_ELEMENT_COUNT",
            target_name=[ITEM_ENDS],
            data_type="TYPE_INT32",
            source_input=[source],
        )
    )
    config.batch_output.append(
        pb.BatchOutput(
            kind="BATCH_SCATTER_WITH_INPUT_SHAPE", target_name=[SCORE], source_input=[source]
        )
    )


def _set_parameters(
    config: Any, artifact: Artifact, options: ServingOptions, artifacts: Mapping[int, str]
) -> None:
    """Say what a client and the backend need to know, under the config's parameters."""
    values = {
        "signature": json.dumps(artifact.manifest.signature.to_json(), separators=(",", ":")),
        "max_candidates": str(options.max_candidates),
    }
    if options.backend == "python":
        values["threads"] = str(options.threads)
    else:
        # The defaults, 0, are all cores for every instance. Graph optimization and the sequential
        # execution mode stay at their defaults, which are those that artifacts are gated with. The
        # backend has no switch for spinning; it matters with more than one thread only.
        values["intra_op_thread_count"] = str(options.threads)
        values["inter_op_thread_count"] = "1"
    values |= {f"{ARTIFACT_PARAMETER}{version}": key for version, key in artifacts.items()}
    for key, value in sorted(values.items()):
        config.parameters[key].string_value = value


def _warm_up(tensors: tuple[WireTensor, ...], requests: int, candidates: int) -> Any:
    inputs = {each.name: (each.dtype, dims_of(each, candidates)) for each in tensors}
    return warm_up(f"{requests}_requests_of_{candidates}", requests, inputs)
