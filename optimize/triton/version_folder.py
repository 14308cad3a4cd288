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
from optimize.gpu_graphs import COMPUTE_CAPABILITY, HALF, ONNX_BUCKETS
from optimize.samples import sample_requests
from optimize.triton.ragged_graph import pack_ragged, ragged_model
from optimize.triton.wire_graph import wire_model
from rankers.errors import UserError
from rankers.wire import pack_request, wire_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.triton.config import ServingOptions
    from rankers.features import Signature
    from rankers.requests import Columns, RequestBatch

BACKEND_MODEL = Path(__file__).parent / "python_backend" / "model.py"
NATIVE_MODEL = "model.onnx"  # where Triton's ONNX Runtime backend looks
BUILD = "build-engine.sh"
# The lineage step of a graph that takes wire tensors. Raise the form when the graph changes: what
# was deployed in an older form is then no longer taken for the same.
_STEP = "wire_graph"
_FORM = 2
_ALONE = ((1,), (2,), (37,))
_JOINED = (*_ALONE, (3, 1, 30))


def write_version(artifact: Artifact, folder: Path, options: ServingOptions) -> None:
    """Write a version into an empty folder.

    Args:
        artifact: A flat or user-once artifact; of ONNX for ``onnxruntime``.
        folder: Where it goes.
        options: The backend ``python`` gets the artifact and `BACKEND_MODEL`; ``onnxruntime`` the
            artifact with its graph made to take wire tensors, sealed again; ``tensorrt`` a plan as
            it is, or the graph that its engine is built of, with the script that does.

    Raises:
        UserError: The artifact changed since it was opened, or it has no wire form.
    """
    for name in (MANIFEST, *artifact.manifest.files):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.folder / name, target)
    # What was copied is what was checked when the artifact was opened, or it goes no further.
    copied = open_artifact(folder)
    if options.backend == "python":
        shutil.copyfile(BACKEND_MODEL, folder / BACKEND_MODEL.name)
    elif options.backend == "onnxruntime":
        _make_native(copied)
    elif artifact.manifest.format == "onnx":
        _make_buildable(copied, options)


def holds(folder: Path, artifact: Artifact, options: ServingOptions) -> bool:
    """Whether a version is this artifact behind this backend, undamaged."""
    try:
        manifest = open_artifact(folder).manifest
    except ArtifactError:
        return False
    if _deployed_key(manifest.to_json()) != artifact_key(artifact):
        return False
    formed = manifest.layout == "wire" and manifest.lineage[-1].options["form"] == _FORM
    if options.backend == "onnxruntime":
        return formed
    if options.backend == "tensorrt":
        return manifest.format == "tensorrt" or (
            formed and (folder / BUILD).read_text() == _build_script(artifact, options)
        )
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


def _make_buildable(copied: Artifact, options: ServingOptions) -> None:
    """Turn a copied artifact into the graph of an engine, with the script that builds it."""
    from tempfile import TemporaryDirectory

    from optimize.tensorrt.dense import write_dense
    from optimize.triton.gpu_config import serving_buckets

    started = time.perf_counter()
    with TemporaryDirectory(dir=copied.folder.parent) as aside:
        graph = write_dense(copied, Path(aside), serving_buckets(options).sizes[:2])
        copied.model_path.unlink()
        shutil.move(graph, copied.folder / NATIVE_MODEL)
    (copied.folder / BUILD).write_text(_build_script(copied, options))
    manifest = replace(copied.manifest, model=NATIVE_MODEL, layout="wire", settings={})
    lineage = (*manifest.lineage, _wire_step(copied, started))
    seal(copied.folder, replace(manifest, lineage=lineage))


def _build_script(artifact: Artifact, options: ServingOptions) -> str:
    from optimize.tensorrt.building import BuildOptions
    from optimize.tensorrt.script import engine_script
    from optimize.triton.gpu_config import engine_profile

    manifest = artifact.manifest
    profile = engine_profile(options, manifest.signature)
    least = manifest.requires.get(COMPUTE_CAPABILITY, "")
    return engine_script(NATIVE_MODEL, profile, BuildOptions(), name=manifest.name, least=least)


def _wire_step(copied: Artifact, started: float) -> Step:
    from optimize.versions import library_versions

    return Step(
        stage=_STEP,
        options={"form": _FORM, "manifest": artifact_key(copied)},
        source=copied.key,
        versions=library_versions("onnx"),
        seconds=round(time.perf_counter() - started, 3),
    )


def _make_native(copied: Artifact) -> None:
    """Turn a copied artifact into its wire form, in place, and prove that it scores the same."""
    from optimize.runtimes import open_predictor
    from optimize.triton.wire_graph import write_graph

    started = time.perf_counter()
    signature, once = copied.manifest.signature, copied.manifest.layout == "user_once"
    batches = [sample_requests(signature, counts) for counts in (_JOINED if once else _ALONE)]
    # Padding to buckets may move the last bit; the server has none of them.
    settings = {x: y for x, y in copied.manifest.settings.items() if x != ONNX_BUCKETS}
    plain = replace(copied.manifest, settings=settings)
    predict = open_predictor(Artifact(copied.folder, plain), threads=1)
    expected = [predict(copied.manifest.columns_of(each)) for each in batches]
    del predict  # two copies of large tables need not be held at once
    write_graph(
        ragged_model if once else wire_model, copied.model_path, copied.model_path, signature
    )
    manifest = replace(plain, layout="wire", lineage=(*plain.lineage, _wire_step(copied, started)))
    pack = pack_ragged if once else _pack_alone
    _check_scores(seal(copied.folder, manifest), batches, expected, pack)


def _check_scores(
    native: Artifact,
    batches: list[RequestBatch],
    expected: list[Any],
    pack: Callable[[Signature, RequestBatch], Columns],
) -> None:
    import onnxruntime

    from optimize.half.rounding import open_rounded

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if HALF in native.manifest.settings:
        session = open_rounded(native.model_path, options)
    else:
        session = onnxruntime.InferenceSession(
            native.model_path, options, providers=["CPUExecutionProvider"]
        )
    for batch, scores in zip(batches, expected, strict=True):
        (served,) = session.run(None, pack(native.manifest.signature, batch))
        if not np.array_equal(served.reshape(-1), scores, equal_nan=True):
            largest = float(np.abs(served.reshape(-1) - scores).max())
            raise UserError(
                f"the graph made for the onnxruntime backend scores {batch.rows} candidates "
                f"otherwise, by up to {largest:.2g}: deploy with backend python"
            )


def _pack_alone(signature: Signature, batch: RequestBatch) -> Columns:
    return pack_request(wire_tensors(signature), batch[0])
