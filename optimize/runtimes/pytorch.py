"""PyTorch, eagerly: runs a torch.export program operator by operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from optimize.torch_program import load_program
from rankers.errors import UserError

if TYPE_CHECKING:
    from optimize.artifact import Artifact
    from optimize.runtimes import Predictor
    from rankers.requests import Array, Columns


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Open a torch.export program.

    Raises:
        UserError: The device is ``cuda`` and there is none.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} was asked for, but torch sees no GPU here")
    if device == "cpu":
        torch.set_num_threads(threads)
    module = load_program(artifact.model_path).module().to(device)
    names = artifact.manifest.inputs

    def predict(inputs: Columns) -> Array:
        with torch.inference_mode():
            columns = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in names]
            scores = module(*(column.to(device) for column in columns))
            result: Array = scores.cpu().numpy()
        return result

    return predict
