"""AOTInductor: a program compiled to a shared library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import _inductor as inductor

from optimize.artifact import Artifact, ArtifactError
from optimize.devices import require_device
from optimize.gpu_graphs import GPU, GRAPHS, gpu_architecture
from optimize.runtimes.cuda_graphs import GraphOptions, GraphPredictor
from optimize.static_inputs import columns_of
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from optimize.runtimes import Predictor
    from rankers.requests import Array, Columns


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Load the library of an ``inductor`` artifact. Its code runs in this process from then on.

    One that was made after `cuda_graphs` runs in its buckets: static inputs at fixed addresses, one
    copy there and one back, and on CUDA a captured graph for each.

    Raises:
        UserError: The device is not the one that it was compiled for, or is not there.
        ArtifactError: It was compiled for another release of torch or another GPU, or cannot be
            loaded.
    """
    manifest = artifact.manifest
    made_for = manifest.settings.get("device", "cpu")
    if device != made_for:
        raise UserError(f"this inductor artifact runs on {made_for}; {device!r} was asked for")
    compiled_for = manifest.requires.get("torch")
    if compiled_for != torch.__version__:
        raise ArtifactError(
            f"{artifact.folder}: compiled for torch {compiled_for}; {torch.__version__} is "
            "installed: run the recipe again"
        )
    if device == "cuda":
        _refuse_other_gpu(artifact)
    torch.set_num_threads(threads)
    buckets = manifest.settings.get(GRAPHS)
    try:
        # In a captured graph nothing may ask whether an earlier call is done.
        model = inductor.aoti_load_package(
            str(artifact.model_path), run_single_threaded=buckets is not None
        )
    except Exception as error:
        raise ArtifactError(
            f"{artifact.model_path}: AOTInductor cannot load it: {in_one_line(error)}"
        ) from error
    program = by_place(model)
    if buckets is not None:
        options = GraphOptions(**buckets | {"compile": False})
        return GraphPredictor(program, columns_of(manifest), options, device=device)
    names = manifest.inputs

    def predict(inputs: Columns) -> Array:
        with torch.inference_mode():
            columns = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in names]
            if device != "cpu":
                columns = [each.to(device) for each in columns]
            scores: Array = program(*columns).cpu().numpy()
        return scores

    return predict


def by_place(model: Any) -> Callable[..., Tensor]:
    """Return a loaded library as a function of its inputs by place, with one result.

    Called itself, it reads in each call, from text, how arguments and results are nested; here
    neither are. For a small ranker that is a good part of a request.
    """
    run = model.loader.boxed_run

    def call(*inputs: Tensor) -> Tensor:
        (scores,) = run([*inputs])
        return cast("Tensor", scores)

    return call


def _refuse_other_gpu(artifact: Artifact) -> None:
    """Raise unless the GPU at hand is there, and of the architecture that the code is for.

    Raises:
        UserError: There is none.
        ArtifactError: It is another one.
    """
    require_device("cuda")
    wanted, here = artifact.manifest.requires.get(GPU), gpu_architecture()
    if wanted != here:
        raise ArtifactError(
            f"{artifact.folder}: compiled for a GPU of {wanted}; this one is {here}: run the "
            "recipe again"
        )
