"""ONNX Runtime: on the CPU, and over candidate buckets on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.gpu_graphs import ONNX_BUCKETS
from optimize.runtimes.onnx_sessions import open_session
from optimize.user_state.predictor import LAYOUT, USER_MODEL, open_parts
from rankers.errors import UserError

if TYPE_CHECKING:
    import onnxruntime

    from optimize.artifact import Artifact
    from optimize.runtimes import Predictor
    from rankers.requests import Array, Columns


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Open an ONNX artifact in a session of its own, or in two where the user's part is apart.

    One with the setting `ONNX_BUCKETS` runs in buckets (optimize/runtimes/onnx_buckets.py), on a
    GPU too.

    Raises:
        UserError: The device is not ``cpu``, and there are no buckets.
        ArtifactError: ONNX Runtime cannot load the model.
    """
    settings = artifact.manifest.settings
    if ONNX_BUCKETS in settings:
        from optimize.runtimes import onnx_buckets

        return onnx_buckets.open_artifact(artifact, device=device, threads=threads)
    if device != "cpu":
        raise UserError(
            f"this onnx artifact runs on cpu; {device!r} was asked for: the stage onnx_gpu_session "
            "makes one that runs there"
        )
    session = open_session(artifact.model_path, threads, settings)
    if artifact.manifest.layout == LAYOUT:
        of_user = open_session(artifact.folder / USER_MODEL, threads, settings)
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
