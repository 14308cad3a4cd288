"""Torch-TensorRT: a library of AOTInductor whose parts are TensorRT engines, over buckets.

Not captured: the engines run on streams of their own. **Not run on a GPU yet** (docs/gpu.md);
packing, padding and buckets are tested on the CPU, with a program in the library's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.artifact import ArtifactError
from optimize.buckets import Buckets
from optimize.runtimes.static_buckets import BucketPredictor
from optimize.static_inputs import StaticInputs, columns_of
from optimize.tensorrt.compatibility import Promise, Target, compare
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.artifact import Artifact, Manifest
    from optimize.runtimes import Predictor
    from optimize.tensorrt.compatibility import Check, Hardware
    from rankers.requests import Array

FORMAT = "torch_tensorrt"
SETTING = "torch_tensorrt"


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Load the library. Its code runs in this process from then on.

    Raises:
        UserError: The device is not ``cuda``, there is none, or Torch-TensorRT is not installed.
        ArtifactError: It was built for another torch, TensorRT or GPU, or cannot be loaded.
    """
    del threads  # of a CPU
    if device != "cuda":
        raise UserError(f"a torch_tensorrt artifact runs on cuda; {device!r} was asked for")
    from optimize.tensorrt.builder import this_machine
    from optimize.versions import require_libraries

    require_libraries("torch-tensorrt")
    refuse_elsewhere(artifact.manifest, this_machine(), torch.__version__)
    import torch_tensorrt  # noqa: F401 - registers the operator that runs engines
    from torch import _inductor as inductor

    from optimize.runtimes.inductor import by_place

    try:
        library = inductor.aoti_load_package(str(artifact.model_path))
    except Exception as error:
        raise ArtifactError(
            f"{artifact.model_path}: AOTInductor cannot load it: {in_one_line(error)}"
        ) from error
    return in_buckets(by_place(library), artifact.manifest, device=device)


def check_library(manifest: Manifest, target: Target) -> list[Check]:
    """Hold a library's engines against where they are to run; see `compare`."""
    data = manifest.settings[SETTING]
    hardware: Hardware = "ampere_plus" if data["options"]["ampere_plus"] else "none"
    promise = Promise(data["options"]["version_compatible"], hardware)
    return compare(Target(**data["built"]), promise, target)


def refuse_elsewhere(manifest: Manifest, here: Target, torch_version: str) -> None:
    """Raise unless a library runs here.

    Raises:
        ArtifactError: It was built for another torch, TensorRT or GPU; the message says which.
    """
    failed = [text for _, passed, text in check_library(manifest, here) if not passed]
    built_for = manifest.requires["torch"]
    if built_for != torch_version:
        failed.append(f"compiled for torch {built_for}, {torch_version} is installed")
    if failed:
        raise ArtifactError(f"{manifest.name!r} does not run here: {'; '.join(failed)}")


def in_buckets(module: Callable[..., Any], manifest: Manifest, *, device: str) -> BucketPredictor:
    """Return a predictor that runs a library in the buckets of its manifest.

    Args:
        module: From columns by position to scores ``[rows]``, on ``device``.
        manifest: With the setting `SETTING`.
        device: Of the buffers.
    """
    data = manifest.settings[SETTING]
    columns = columns_of(manifest)
    runs = {
        size: CalledRun(module, StaticInputs(columns, size, device), size) for size in data["sizes"]
    }
    return BucketPredictor(columns, Buckets(tuple(data["sizes"]), data["beyond"]), runs)


class CalledRun:
    """One bucket that is called, not captured.

    Args:
        module: As in `in_buckets`.
        inputs: At fixed addresses.
        size: Rows.

    Attributes:
        inputs: Pack a request into them, then `run`.
        scores: float32 ``[size]`` on the host, overwritten by the next run.
    """

    def __init__(self, module: Callable[..., Any], inputs: StaticInputs, size: int) -> None:
        self._module = module
        self.inputs = inputs
        pinned = inputs.device.device.type != "cpu"
        self._on_host = torch.zeros(size, dtype=torch.float32, pin_memory=pinned)
        self.scores: Array = self._on_host.numpy()
        self.run()  # what is made at a first call is made now

    def run(self) -> None:
        """Copy the inputs there, run, and copy the scores back; done when it returns."""
        with torch.inference_mode():
            self.inputs.device.copy_(self.inputs.host, non_blocking=True)
            found = self._module(*self.inputs.tensors)
            scores = found[0] if isinstance(found, tuple | list) else found
            self._on_host.copy_(scores.reshape(-1))  # waits for it
