"""Both parts of a user-once artifact on disk, with shapes that were seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.user_state import cut
from optimize.user_state.predictor import CANDIDATES_MODEL, USER_MODEL
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optimize.artifact import Artifact
    from optimize.user_state.cut import Crossing
    from rankers.requests import Array

_PROTOBUF_LIMIT_BYTES = 2**31 - 1


def write_halves(artifact: Artifact, folder: Path) -> list[tuple[Crossing, Array]]:
    """Write `USER_MODEL` and `CANDIDATES_MODEL`.

    Args:
        artifact: An ONNX one of the layout ``user_once``.
        folder: Where they go.

    Returns:
        What crosses from one to the other, with an example of each value.

    Raises:
        UserError: The graph cannot be cut; the message says at what.
    """
    import onnx

    model = onnx.load(artifact.model_path)
    user = [each.name for each in artifact.manifest.signature.user]
    crossing = cut.crossings(model.graph, user)
    _write(cut.user_model(model, user, crossing), folder / USER_MODEL)
    seen = _see(artifact, folder / USER_MODEL, crossing)
    # Weights beside the graph stay there, as they are not loaded.
    finished = onnx.load(folder / USER_MODEL, load_external_data=False)
    cut.finish_user_model(finished, seen)
    onnx.save_model(finished, folder / USER_MODEL)
    _write(cut.candidates_model(model, user, seen), folder / CANDIDATES_MODEL)
    for name in (USER_MODEL, CANDIDATES_MODEL):
        onnx.checker.check_model(str(folder / name))
    return seen


def _write(model: Any, path: Path) -> None:
    import onnx

    large = cut.weight_bytes(model) > _PROTOBUF_LIMIT_BYTES // 2
    onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data")


def _see(
    artifact: Artifact, model: Path, crossing: Sequence[Crossing]
) -> list[tuple[Crossing, Array]]:
    """Run the user's graph for two numbers of users, and see that what crosses has a row for each.

    Each value comes with an example, for the smaller number.
    """
    import onnxruntime

    from optimize.samples import sample_requests

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [each.value for each in crossing]
    runs = []
    for users in (3, 5):
        columns = sample_requests(artifact.manifest.signature, [1] * users).user
        runs.append(session.run(names, columns))
    for each, one, other in zip(crossing, *runs, strict=True):
        few, more = (np.moveaxis(x, each.axis, 0).shape for x in (one, other))
        if (few[0], more[0]) != (3, 5) or few[1:] != more[1:]:
            raise UserError(
                f"the user's part cannot be kept apart: {each.value!r} has the shape {one.shape} "
                f"for 3 users and {other.shape} for 5; expected a row for each"
            )
    return list(zip(crossing, runs[0], strict=True))
