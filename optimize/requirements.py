"""Whether an artifact can run here: what its manifest requires, held against this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimize.gpu_graphs import COMPUTE_CAPABILITY
from optimize.instruction_sets import ISA, missing_instruction_sets
from optimize.runtimes import open_predictor
from rankers.errors import UserError

if TYPE_CHECKING:
    from optimize.artifact import Artifact, Manifest
    from optimize.tensorrt.compatibility import Target


def check_artifact(artifact: Artifact, target: Target | None = None) -> list[tuple[str, bool, str]]:
    """Check what can be known before a model serves.

    Args:
        artifact: Opened, so its checksums agree.
        target: Where a TensorRT plan is to run, or the engine of a graph that asks something of
            its GPU; by default here. Elsewhere a plan is not scored.

    Returns:
        For each check its name, whether it passed, and what was found.

    Raises:
        UserError: There is a target, and the artifact is no plan and asks nothing of a GPU.
    """
    checks = [("checksums", True, f"{len(artifact.manifest.files)} files agree")]
    if artifact.manifest.format in {"tensorrt", "torch_tensorrt"}:
        checks += _engine(artifact, target)
    elif target is not None and COMPUTE_CAPABILITY not in artifact.manifest.requires:
        raise UserError(
            f"{artifact.folder}: a {artifact.manifest.format} artifact; --tensorrt, --gpu and "
            "--compute-capability say where TensorRT's engines are to run"
        )
    else:
        checks += [
            _requirement(artifact.manifest, name, target) for name in artifact.manifest.requires
        ]
        checks.append(_scores(artifact))
    if artifact.manifest.layout == "user_state":
        checks.append(_kept_state(artifact))
    verdicts = artifact.manifest.verdicts
    failed = [each.gate for each in verdicts if not each.passed]
    if not verdicts:
        checks.append(("gates", False, "no gate has looked at it"))
    else:
        found = f"failed: {', '.join(failed)}" if failed else f"{len(verdicts)} passed"
        checks.append(("gates", not failed, found))
    return checks


def _engine(artifact: Artifact, target: Target | None) -> list[tuple[str, bool, str]]:
    """Hold TensorRT's engines against their target; score them if that is this machine."""
    from optimize.tensorrt.builder import this_machine

    if artifact.manifest.format == "tensorrt":
        from optimize.tensorrt.plan import check_plan as check
    else:
        from optimize.runtimes.torch_tensorrt_library import check_library as check
    if target is not None:
        return check(artifact.manifest, target)
    try:
        found = check(artifact.manifest, this_machine())
    except UserError as error:
        advice = "say where it is to serve: --tensorrt, --gpu, --compute-capability"
        return [("TensorRT", False, f"{error}; or {advice}")]
    return [*found, _scores(artifact, device="cuda")]


def _requirement(manifest: Manifest, name: str, target: Target | None) -> tuple[str, bool, str]:
    from optimize.tensorrt.compatibility import Target, reaches

    if name == ISA:
        return _instruction_sets(manifest)
    value = manifest.requires[name]
    if name == COMPUTE_CAPABILITY:  # of its engine: a CPU computes the graph in float32
        return reaches(target or Target(), value)
    return _version(name, value)


def _instruction_sets(manifest: Manifest) -> tuple[str, bool, str]:
    missing = missing_instruction_sets(manifest)
    found = f"this CPU lacks {', '.join(missing)}" if missing else manifest.requires[ISA]
    return ("instruction sets", not missing, found)


def _version(name: str, value: str) -> tuple[str, bool, str]:
    from optimize.versions import library_versions

    installed = library_versions(name)[name]
    enough = _numbers(installed) >= _numbers(value)
    return (name, enough, f"{installed} installed, {value} or later needed")


def _scores(artifact: Artifact, *, device: str = "cpu") -> tuple[str, bool, str]:
    """Open it and score a few random candidates."""
    from optimize.samples import sample_requests

    manifest = artifact.manifest
    try:
        columns = manifest.columns_of(sample_requests(manifest.signature, [3]))
        scores = open_predictor(artifact, device=device)(columns)
    except UserError as error:
        return ("scores", False, str(error))
    finite = bool(np.isfinite(scores).all()) and scores.shape == (3,)
    return ("scores", finite, "3 random rows score" if finite else f"3 random rows give {scores}")


def _kept_state(artifact: Artifact) -> tuple[str, bool, str]:
    """Keep a user's state as bytes, read it, and rank by it."""
    from optimize.samples import sample_requests
    from optimize.user_state.predictor import open_user_state
    from optimize.user_state.state import UserState

    manifest = artifact.manifest
    batch = sample_requests(manifest.signature, [3])
    try:
        predictor = open_user_state(artifact.folder)
        kept = predictor.user(batch.user).to_bytes()
        scores = predictor.rank(UserState.from_bytes(kept), batch.items)
        same = np.array_equal(scores, predictor(manifest.columns_of(batch)))
    except UserError as error:
        return ("user state", False, str(error))
    said = "ranks as its features do" if same else "ranks otherwise than its features"
    return ("user state", same, f"{len(kept)} bytes of version {artifact.key[:16]}; {said}")


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: enough to compare releases."""
    parts = version.partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())
