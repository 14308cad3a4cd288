"""AOTInductor: a program compiled to a shared library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import _inductor as inductor

from optimize.artifact import Artifact, ArtifactError
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from optimize.runtimes import Predictor
    from rankers.requests import Array, Columns


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Load the library of an ``inductor`` artifact. Its code runs in this process from then on.

    Raises:
        UserError: The device is not ``cpu``.
        ArtifactError: It was compiled for another release of torch, or cannot be loaded.
    """
    if device != "cpu":
        raise UserError(f"this inductor artifact runs on cpu; {device!r} was asked for")
    manifest = artifact.manifest
    compiled_for = manifest.requires.get("torch")
    if compiled_for != torch.__version__:
        raise ArtifactError(
            f"{artifact.folder}: compiled for torch {compiled_for}; {torch.__version__} is "
            "installed: run the recipe again"
        )
    torch.set_num_threads(threads)
    try:
        model = inductor.aoti_load_package(str(artifact.model_path))
    except Exception as error:
        raise ArtifactError(
            f"{artifact.model_path}: AOTInductor cannot load it: {in_one_line(error)}"
        ) from error
    names = manifest.inputs

    def predict(inputs: Columns) -> Array:
        with torch.inference_mode():
            columns = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in names]
            scores: Array = model(*columns).numpy()
        return scores

    return predict
