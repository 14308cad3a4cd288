"""PyTorch: runs a torch.export program operator by operator, or compiles it when it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optimize.runtimes import cuda_graphs
from optimize.samples import sample_requests
from optimize.torch_program import load_program, program_on
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from optimize.artifact import Artifact
    from optimize.runtimes import Predictor
    from rankers.requests import Array, Columns

# Dynamo compiles for one row or user, and once more for any number of them.
_COMPILED_CANDIDATES = ((1,), (5,), (7,), (2, 3))


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Open a torch.export program, or capture it as CUDA graphs where its settings say so.

    One with the setting ``compile`` is compiled here, which takes from seconds to minutes, so that
    no request has to wait for it.

    Raises:
        UserError: The device is ``cuda`` and there is none.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} was asked for, but torch sees no GPU here")
    manifest = artifact.manifest
    if cuda_graphs.SETTING in manifest.settings:
        return cuda_graphs.open_artifact(artifact, device=device, threads=threads)
    if device == "cpu":
        torch.set_num_threads(threads)
    module: Any = program_on(load_program(artifact.model_path), device).module()
    compiled = bool(manifest.settings.get("compile"))
    if compiled:
        module = torch.compile(module, dynamic=True)
    predict = ProgramPredictor(module, manifest.inputs, device)
    if compiled:
        for counts in _COMPILED_CANDIDATES:
            predict(manifest.columns_of(sample_requests(manifest.signature, counts)))
    return predict


class ProgramPredictor:
    """An exported program, called as it is.

    Args:
        module: From columns by position, ``[rows, …]``, to scores ``[rows]``; on ``device``.
        names: Of the columns, in order.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, module: Any, names: Sequence[str], device: str) -> None:
        self._module = module
        self._names = tuple(names)
        self._device = device

    def __call__(self, inputs: Columns) -> Array:
        """Score rows; see `optimize.runtimes.Predictor`."""
        with torch.inference_mode():
            columns = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._names]
            scores = self._module(*(column.to(self._device) for column in columns))
            result: Array = scores.cpu().numpy()
        return result

    def score_resident(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Score contiguous columns on the device, where the scores stay; done when it returns."""
        with torch.inference_mode():
            scores: Tensor = self._module(*(columns[name] for name in self._names)).reshape(-1)
        if self._device != "cpu":
            torch.cuda.current_stream().synchronize()
        return scores
