"""ONNX Runtime over candidate buckets, with inputs and scores bound to buffers that stay.

A request is packed into its bucket's pinned buffer and copied to the device at once; the session
runs over bound addresses, so nothing is allocated or copied by it; the scores are copied back at
once. With the option ``enable_cuda_graph`` the first runs of a bucket are captured, under an
annotation of its own, and later ones replay the graph.

On the CPU the same packing, binding and padding run, under the CPU's provider.
Source: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from optimize.buckets import LADDER, Beyond, Buckets
from optimize.gpu_graphs import ONNX_BUCKETS
from optimize.runtimes.onnx_providers import (
    Provider,
    missing_provider,
    preload_libraries,
    profile_of,
    provider_options,
    require_started,
)
from optimize.runtimes.onnx_sessions import open_session
from optimize.runtimes.static_buckets import BucketPredictor
from optimize.static_inputs import StaticInputs, columns_of
from rankers.cache import cache_folder
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optimize.artifact import Artifact
    from optimize.runtimes import Predictor
    from optimize.runtimes.static_buckets import BucketInputs
    from optimize.static_inputs import Column
    from rankers.requests import Array, Columns

# ONNX Runtime captures a bucket's graph after two runs that allocate what it needs.
_WARM_UPS = 4


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a graph is opened, as its manifest's setting `ONNX_BUCKETS` says.

    Attributes:
        sizes: The buckets.
        beyond: As in `optimize.buckets.Buckets`.
        provider: On ``cuda``; the CPU has one provider.
        cuda_graph: Whether launches are captured.
        tf32: Whether float32 products may be computed in TF32.
        usual: The candidates that TensorRT tunes for; one of the sizes.
    """

    sizes: tuple[int, ...] = LADDER
    beyond: Beyond = "split"
    provider: Provider = "cuda"
    cuda_graph: bool = True
    tf32: bool = False
    usual: int = 256

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))  # JSON has lists
        Buckets(self.sizes, self.beyond)
        if self.usual not in self.sizes:
            raise UserError(f"usual is {self.usual}; it is one of the buckets, {self.sizes}")

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON-ready data."""
        return asdict(self) | {"sizes": list(self.sizes)}


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Open an ONNX artifact with the setting `ONNX_BUCKETS`, and run each bucket until it is warm.

    Raises:
        UserError: The device or its provider is not there, or the session cannot run a bucket.
        ArtifactError: ONNX Runtime cannot load the model.
    """
    from optimize.devices import require_device

    options = SessionOptions(**artifact.manifest.settings[ONNX_BUCKETS])
    missing = missing_provider(options.provider) if device == "cuda" else None
    if missing:
        raise UserError(missing)
    require_device(device)
    if device == "cpu":
        return _open(artifact, options, torch.device(device), threads)
    # Which GPU is current is a thing of each thread, and the server has an instance on each GPU.
    gpu = torch.device(device, torch.cuda.current_device())
    if options.cuda_graph:
        return OneThread(lambda: _open(artifact, options, gpu, threads))
    return _open(artifact, options, gpu, threads)


class OneThread:
    """A predictor that is opened and called in a thread of its own, whoever calls it.

    ONNX Runtime keeps what it captured for each thread apart: a request from another one would wait
    until everything was captured again, and that would be kept as well.

    Args:
        opened: Opens it.
    """

    def __init__(self, opened: Any) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnx-buckets")
        self._predict: Predictor = self._thread.submit(opened).result()

    def __call__(self, inputs: Columns) -> Array:
        """Score rows; see `optimize.runtimes.Predictor`."""
        return self._thread.submit(self._predict, inputs).result()


class BoundSession:
    """One bucket of a session.

    Args:
        session: Of ONNX Runtime; shared by all buckets.
        inputs: What it takes, at fixed addresses.
        size: Rows.
        device: Of its buffers, such as ``cuda:1``.
        stream: Everything runs on it; None on the CPU.
        annotation: Of its CUDA graph, from 1: ONNX Runtime keeps one graph for each.

    Attributes:
        inputs: Pack a request into them, then `run`.
        scores: float32 ``[size]`` on the host, overwritten by the next run.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs: BucketInputs,
        size: int,
        *,
        device: str,
        stream: Any = None,
        annotation: int = 1,
    ) -> None:
        self._session = session
        self._stream = stream
        self.inputs = inputs
        place = torch.device(device)
        at = (place.type, place.index or 0)
        self._on_device = torch.zeros(size, dtype=torch.float32, device=device)
        self._on_host = torch.zeros(size, dtype=torch.float32, pin_memory=stream is not None)
        self.scores: Array = self._on_host.numpy()
        self._binding = session.io_binding()
        for name, tensor in inputs.named.items():
            self._binding.bind_input(
                name, *at, _numpy_type(tensor), [*tensor.shape], tensor.data_ptr()
            )
        output = session.get_outputs()[0]
        self._binding.bind_output(
            output.name, *at, np.float32,
            _score_shape(output.shape, size), self._on_device.data_ptr(),
        )  # fmt: skip
        self._options = onnxruntime.RunOptions()
        if stream is not None:
            self._options.add_run_config_entry("gpu_graph_id", str(annotation))
            # The stream is waited for once, after the scores were copied back.
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        for _ in range(_WARM_UPS if stream is not None else 1):
            self._warm_up(size)

    def run(self) -> None:
        """Copy the inputs there, run, and copy the scores back; done when it returns."""
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            self.inputs.device.copy_(self.inputs.host, non_blocking=True)
            self._session.run_with_iobinding(self._binding, self._options)
            self._on_host.copy_(self._on_device, non_blocking=True)
        if self._stream is not None:
            self._stream.synchronize()

    def _warm_up(self, size: int) -> None:
        try:
            self.run()
        except Exception as error:  # of onnxruntime: many kinds above RuntimeError
            raise UserError(
                f"the session cannot run {size} rows: {in_one_line(error)}; where it is the "
                "capture that fails, onnx_gpu_session with cuda_graph = false does without"
            ) from error


def _open(
    artifact: Artifact, options: SessionOptions, device: torch.device, threads: int
) -> BucketPredictor:
    columns = columns_of(artifact.manifest)
    stream = None if device.type == "cpu" else _new_stream(device)
    session = _session(artifact, options, columns, threads, stream)
    names = {each.name for each in session.get_inputs()}
    read = tuple(each for each in columns if each.name in names)
    _check_edges(session, {each.name for each in read})
    buckets = Buckets(options.sizes, options.beyond)
    # The largest first: ONNX Runtime's arena then has room for the smaller ones.
    runs = {
        size: BoundSession(
            session, StaticInputs(read, size, str(device)), size,
            device=str(device), stream=stream, annotation=place,
        )
        for place, size in reversed([*enumerate(buckets.sizes, start=1)])
    }  # fmt: skip
    return BucketPredictor(columns, buckets, runs)


def _session(
    artifact: Artifact,
    options: SessionOptions,
    columns: tuple[Column, ...],
    threads: int,
    stream: Any,
) -> onnxruntime.InferenceSession:
    settings: Mapping[str, Any] = artifact.manifest.settings
    if stream is None:
        return open_session(artifact.model_path, threads, settings)
    preload_libraries()
    caches = cache_folder() / "tensorrt" / artifact.key[:16]
    names = set()
    if options.provider == "tensorrt":
        caches.mkdir(parents=True, exist_ok=True)
        names = _inputs_of(artifact)
    providers = provider_options(
        options.provider,
        gpu=stream.device.index,
        stream=stream.cuda_stream,
        cuda_graph=options.cuda_graph,
        tf32=options.tf32,
        profile=profile_of(
            [each for each in columns if each.name in names], options.usual, options.sizes[-1]
        ),
        caches=caches,
    )
    session = open_session(artifact.model_path, threads, settings, providers=providers)
    require_started(session, options.provider)
    return session


def _inputs_of(artifact: Artifact) -> set[str]:
    """Return what the graph reads: an exporter drops features that no score needs."""
    import onnx

    graph = onnx.load(artifact.model_path, load_external_data=False).graph
    return {each.name for each in graph.input}


def _check_edges(session: onnxruntime.InferenceSession, known: set[str]) -> None:
    """Raise unless every input is a column, and the score float32 with one number a row."""
    unknown = [each.name for each in session.get_inputs() if each.name not in known]
    if unknown:
        raise UserError(f"the graph has an input {unknown[0]!r} that is no feature of the artifact")
    output = session.get_outputs()[0]
    wide = any(isinstance(each, int) and each != 1 for each in output.shape[1:])
    if wide or output.type != "tensor(float)":
        raise UserError(
            f"the graph's score is {output.type} {output.shape}; expected float32 [rows]"
        )


def _score_shape(stated: list[Any], size: int) -> list[int]:
    """Return the shape of a bucket's scores: ``[rows]``, ``[rows, 1]``, or ``[1, N]``."""
    if stated[0] == "requests":
        return [1, size]
    return [size, *(1 for _ in stated[1:])]


def _numpy_type(tensor: torch.Tensor) -> Any:
    return torch.empty(0, dtype=tensor.dtype).numpy().dtype


def _new_stream(device: torch.device) -> Any:
    stream: Any = torch.cuda.Stream  # torch gives it no types
    return stream(device)
