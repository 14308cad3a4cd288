"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime

from optimize.artifact import Artifact, ArtifactError
from optimize.gpu_graphs import HALF
from optimize.user_state.predictor import LAYOUT, USER_MODEL, open_parts
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optimize.runtimes import Predictor
    from rankers.requests import Array, Columns


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Open an ONNX artifact in a session of its own, or in two where the user's part is apart.

    Raises:
        UserError: The device is not ``cpu``.
        ArtifactError: ONNX Runtime cannot load the model.
    """
    if device != "cpu":
        raise UserError(f"the onnxruntime runtime runs on cpu; {device!r} was asked for")
    settings = artifact.manifest.settings
    session = _open_session(artifact.model_path, threads, settings)
    if artifact.manifest.layout == LAYOUT:
        of_user = _open_session(artifact.folder / USER_MODEL, threads, settings)
        return open_parts(artifact, of_user, session)
    names = [each.name for each in session.get_inputs()]

    if settings.get("io_binding", False):
        return _bound(session, names)

    def predict(inputs: Columns) -> Array:
        (scores,) = session.run(None, {name: inputs[name] for name in names})
        result: Array = scores.reshape(-1)
        return result

    return predict


def _bound(session: onnxruntime.InferenceSession, names: list[str]) -> Predictor:
    """Return a predictor that binds its inputs and its output."""
    output = session.get_outputs()[0].name

    def predict(inputs: Columns) -> Array:
        binding = session.io_binding()
        for name in names:
            binding.bind_cpu_input(name, inputs[name])
        binding.bind_output(output)
        session.run_with_iobinding(binding)
        scores: Array = binding.copy_outputs_to_cpu()[0].reshape(-1)
        return scores

    return predict


def _open_session(
    model: Path, threads: int, settings: Mapping[str, Any]
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool burns the core that the server's or client's threads need.
    spinning = "1" if settings.get("spinning", False) else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.enable_cpu_mem_arena = settings.get("arena", True)
    options.log_severity_level = 3
    try:
        if HALF in settings:
            from optimize.half.rounding import open_rounded

            return open_rounded(model, options)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime has no exception of its own above RuntimeError's many kin.
        raise ArtifactError(f"{model}: ONNX Runtime cannot load it: {error}") from error
