"""Runtimes: each opens artifacts of one format and predicts. One file a runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from optimize.instruction_sets import refuse_other_cpu
from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from optimize.artifact import Artifact
    from rankers.requests import Array, Columns

# Which runtime opens which format: data, so that the CLI can list them without importing torch.
RUNTIMES = {
    "torch": "optimize.runtimes.pytorch",
    "onnx": "optimize.runtimes.onnx_runtime",
    "inductor": "optimize.runtimes.inductor",
    "openvino": "optimize.runtimes.openvino",
    "tensorrt": "optimize.runtimes.tensorrt_plan",
    "torch_tensorrt": "optimize.runtimes.torch_tensorrt_library",
}

# The formats that a server serves from a version's folder alone; recipes keep one of these unless
# they say otherwise (optimize/triton).
DEPLOYABLE = ("onnx", "openvino", "tensorrt")
# Those that need torch and rankserve beside the server too: `deploy` takes them by name.
SERVED_BY_TORCH = ("torch", "inductor")


class Predictor(Protocol):
    """An opened artifact."""

    def __call__(self, inputs: Columns) -> Array:
        """Score rows.

        Args:
            inputs: What `optimize.artifact.Manifest.inputs` names, contiguous: in the flat layout
                every feature ``[rows, …]``.

        Returns:
            float32 ``[rows]``.
        """
        ...


def open_predictor(
    artifact: Artifact, *, device: str = "cpu", threads: int | None = None
) -> Predictor:
    """Open an artifact in the runtime of its format.

    Args:
        artifact: What `optimize.artifact.open_artifact` returned.
        device: ``cpu``, or ``cuda`` where the runtime can.
        threads: For one call; by default by `default_threads`.

    Raises:
        UserError: No runtime opens the format, its library is not installed, the device is not to
            be had, or the artifact was made for another CPU.
    """
    import importlib

    name = RUNTIMES.get(artifact.manifest.format)
    if name is None:
        raise UserError(
            f"{artifact.folder}: no runtime opens the format {artifact.manifest.format!r}; "
            f"{nearest(artifact.manifest.format, RUNTIMES)}"
        )
    refuse_other_cpu(artifact)
    opened: Predictor = importlib.import_module(name).open_artifact(
        artifact, device=device, threads=threads or default_threads(artifact)
    )
    return opened


def default_threads(artifact: Artifact) -> int:
    """Return how many threads a call has where nobody says.

    That is what its settings say, else the number in OMP_NUM_THREADS, as for torch itself, else one
    for each physical core.
    """
    import os

    said = os.environ.get("OMP_NUM_THREADS", "")
    limit = int(said) if said.isdigit() and int(said) > 0 else physical_cores()
    return artifact.manifest.settings.get("threads") or limit


def physical_cores() -> int:
    """Return how many physical cores this process may run on; at least 1."""
    import os

    import psutil

    allowed = len(os.sched_getaffinity(0))
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))
