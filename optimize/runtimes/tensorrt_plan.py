"""TensorRT plans over candidate buckets: an execution context and a CUDA graph for each.

A request is packed into the wire tensors of its bucket, copied at once, and the bucket's captured
graph is replayed. A context whose launches were captured may not change its shapes any more, so
each bucket has one of its own. **Not run on a GPU yet** (docs/gpu.md); packing, buckets and
what is refused are tested on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.runtimes.static_buckets import BucketPredictor
from optimize.static_inputs import columns_of
from optimize.tensorrt.building import profile_holding
from optimize.tensorrt.plan import PlanFacts, read_plan, refuse_elsewhere, refuse_other_tensors
from optimize.wire_inputs import WireInputs
from rankers.errors import UserError
from rankers.wire import SCORE

if TYPE_CHECKING:
    from optimize.artifact import Artifact
    from optimize.runtimes import Predictor
    from rankers.requests import Array


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Load a plan, and capture each of its buckets.

    Raises:
        UserError: The device is not ``cuda``, there is none, or TensorRT is not installed.
        ArtifactError: The plan's checksum differs, it was built for another version of TensorRT or
            another GPU, or TensorRT cannot load it.
    """
    del threads  # of a CPU
    if device != "cuda":
        raise UserError(f"a TensorRT plan runs on cuda; {device!r} was asked for")
    from optimize.tensorrt.builder import load_engine, this_machine

    facts = PlanFacts.of(artifact.manifest)
    refuse_elsewhere(artifact, this_machine())
    engine = load_engine(read_plan(artifact), facts.options)
    names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
    signature = artifact.manifest.signature
    refuse_other_tensors(names, signature)
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    pool = torch.cuda.graph_pool_handle()
    runs = {
        size: PlanRun(
            engine, WireInputs(signature, size, device), size,
            profile=profile_holding(facts.profiles, size), stream=stream, pool=pool,
        )
        for size in reversed(facts.sizes)
    }  # fmt: skip
    return BucketPredictor(columns_of(artifact.manifest), facts.buckets, runs)


class PlanRun:
    """One bucket of an engine.

    Args:
        engine: An ``ICudaEngine``.
        inputs: Its wire tensors.
        size: Candidates.
        profile: The place of the optimization profile that holds the bucket.
        stream: Everything runs on it.
        pool: Of graphs' memory.

    Attributes:
        inputs: Pack a request into them, then `run`.
        scores: float32 ``[size]`` on the host, overwritten by the next run.

    Raises:
        UserError: TensorRT does not take the bucket's shapes, or cannot run them.
    """

    def __init__(
        self, engine: Any, inputs: WireInputs, size: int, *, profile: int, stream: Any, pool: Any
    ) -> None:
        from optimize.runtimes.cuda_graphs import capture_graph

        self.inputs = inputs
        self._stream = stream
        self._on_device = torch.zeros(1, size, dtype=torch.float32, device="cuda")
        self._on_host = torch.zeros(size, dtype=torch.float32, pin_memory=True)
        self.scores: Array = self._on_host.numpy()
        self._context = engine.create_execution_context()
        taken = self._context.set_optimization_profile_async(profile, stream.cuda_stream)
        for name, tensor in inputs.named.items():
            taken = taken and self._context.set_input_shape(name, tuple(tensor.shape))
            taken = taken and self._context.set_tensor_address(name, tensor.data_ptr())
        taken = taken and self._context.set_tensor_address(SCORE, self._on_device.data_ptr())
        if not taken:
            raise UserError(f"TensorRT does not take {size} candidates; its own lines say why")
        stream.synchronize()

        def launch() -> None:
            if not self._context.execute_async_v3(stream.cuda_stream):
                raise UserError(f"TensorRT cannot run {size} candidates; its own lines say why")

        self._captured = capture_graph(launch, stream, pool)

    def run(self) -> None:
        """Copy the inputs there, replay, and copy the scores back; done when it returns."""
        with torch.cuda.stream(self._stream):
            self.inputs.device.copy_(self.inputs.host, non_blocking=True)
            self._captured.replay()
            self._on_host.copy_(self._on_device[0], non_blocking=True)
        self._stream.synchronize()
