"""What one version of a deployed model holds, for either backend."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.artifact import MANIFEST, Artifact, ArtifactError, Step, open_artifact, seal
from rankers.errors import UserError

if TYPE_CHECKING:
    from optimize.triton.config import Backend
    from rankers.requests import RankingRequest

BACKEND_MODEL = Path(__file__).parent / "python_backend" / "model.py"
NATIVE_MODEL = "model.onnx"  # where Triton's ONNX Runtime backend looks
# The lineage step of a graph that takes wire tensors. Raise the form when the graph changes: what
# was deployed in an older form is then no longer taken for the same.
_STEP = "wire_graph"
_FORM = 1
_CHECKED_CANDIDATES = (1, 2, 37)


def write_version(artifact: Artifact, folder: Path, backend: Backend) -> None:
    """Write a version into an empty folder.

    Args:
        artifact: A flat ONNX artifact.
        folder: Where it goes.
        backend: ``python`` gets the artifact and `BACKEND_MODEL`; ``onnxruntime`` the artifact with
            its graph made to take wire tensors, sealed again.

    Raises:
        UserError: The artifact changed since it was opened, or it has no wire form.
    """
    for name in (MANIFEST, *artifact.manifest.files):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.folder / name, target)
    # What was copied is what was checked when the artifact was opened, or it goes no further.
    copied = open_artifact(folder)
    if backend == "python":
        shutil.copyfile(BACKEND_MODEL, folder / BACKEND_MODEL.name)
    else:
        _make_native(copied)


def holds(folder: Path, artifact: Artifact, backend: Backend) -> bool:
    """Whether a version is this artifact behind this backend, undamaged."""
    try:
        manifest = open_artifact(folder).manifest
    except ArtifactError:
        return False
    if _deployed_key(manifest.to_json()) != artifact_key(artifact):
        return False
    if backend == "onnxruntime":
        return manifest.layout == "wire" and manifest.lineage[-1].options["form"] == _FORM
    model = folder / BACKEND_MODEL.name
    return model.is_file() and model.read_bytes() == BACKEND_MODEL.read_bytes()


def artifact_key(artifact: Artifact) -> str:
    """Return the SHA-256 of an artifact's manifest."""
    key: str = artifact.manifest.to_json()["sha256"]
    return key


def deployed_keys(model: Path, numbers: list[int]) -> dict[int, str]:
    """Return the `artifact_key` of what each version was made from, by version number."""
    found = {}
    for number in numbers:
        try:
            data = json.loads((model / str(number) / MANIFEST).read_bytes())
            found[number] = _deployed_key(data)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # A damaged version is not this deploy's to judge: the server refuses it.
    return found


def _deployed_key(manifest: dict[str, Any]) -> str:
    """Return the key of the artifact that a version's manifest came from: its own, if unchanged."""
    steps = manifest["lineage"]
    own = steps[-1]["options"]["manifest"] if steps and steps[-1]["stage"] == _STEP else None
    key: str = own or manifest["sha256"]
    return key


def _make_native(flat: Artifact) -> None:
    """Turn a copied artifact into its wire form, in place, and prove that it scores the same."""
    from optimize.runtimes import open_predictor
    from optimize.triton.wire_graph import write_wire_graph
    from optimize.versions import library_versions

    started = time.perf_counter()
    requests = [_sample(flat, count) for count in _CHECKED_CANDIDATES]
    predict = open_predictor(flat, threads=1)
    expected = [predict(request.flat()) for request in requests]
    del predict  # two copies of large tables need not be held at once
    write_wire_graph(flat.model_path, flat.model_path, flat.manifest.signature)
    step = Step(
        stage=_STEP,
        options={"form": _FORM, "manifest": artifact_key(flat)},
        source=flat.key,
        versions=library_versions("onnx"),
        seconds=round(time.perf_counter() - started, 3),
    )
    manifest = replace(flat.manifest, layout="wire", lineage=(*flat.manifest.lineage, step))
    _check_scores(seal(flat.folder, manifest), requests, expected)


def _check_scores(native: Artifact, requests: list[RankingRequest], expected: list[Any]) -> None:
    import onnxruntime

    from rankers.wire import pack_request, wire_tensors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        native.model_path, options, providers=["CPUExecutionProvider"]
    )
    tensors = wire_tensors(native.manifest.signature)
    for request, scores in zip(requests, expected, strict=True):
        (served,) = session.run(None, pack_request(tensors, request))
        if not np.array_equal(served[0], scores, equal_nan=True):
            largest = float(np.abs(served[0] - scores).max())
            raise UserError(
                f"the graph made for the onnxruntime backend scores {request.candidates} "
                f"candidates otherwise, by up to {largest:.2g}: deploy with backend python"
            )


def _sample(artifact: Artifact, count: int) -> RankingRequest:
    from optimize.samples import sample_columns
    from rankers.requests import RankingRequest

    signature = artifact.manifest.signature
    columns = sample_columns(signature, count)
    return RankingRequest(
        user={each.name: columns[each.name][:1] for each in signature.user},
        items={each.name: columns[each.name] for each in signature.item},
    )
