"""What of a run can be deployed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from optimize.run import RUN_FILE, find_artifact
from optimize.runtimes import DEPLOYABLE, SERVED_BY_TORCH
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact


def find_deployable(path: Path, backend: str = "python") -> Artifact:
    """Open what `find_artifact` does, unless it is of a format that cannot be deployed.

    Raises:
        UserError: It is; the message names the best of the run that can be deployed.
    """
    found = find_artifact(path)
    served = (*DEPLOYABLE, *SERVED_BY_TORCH)
    if found.manifest.format in served or backend == "torch_aoti":
        return found  # that one is compiled of a torch program when it is deployed
    said = f"{found.folder}: no backend of Triton serves {found.manifest.format} artifacts here"
    run_file = path / RUN_FILE
    best = json.loads(run_file.read_bytes())["best_deployable"] if run_file.is_file() else None
    if best is None:
        raise UserError(f"{said}; deploy one of these formats: {', '.join(served)}")
    raise UserError(f"{said}; the best of this run that can be deployed is {path / best}")


def notes_on(artifact: Artifact) -> list[str]:
    """Return what a person has to know to serve an artifact, a line each."""
    if artifact.manifest.format != "tensorrt":
        return []
    from optimize.tensorrt.plan import PlanFacts

    facts = PlanFacts.of(artifact.manifest)
    built = facts.built
    where = f"{built.gpu} (compute capability {built.compute_capability})"
    lines = [f"built by TensorRT {built.tensorrt} on {where}: `optimize check` compares a server's"]
    if facts.options.version_compatible:
        lines.append(
            "version-compatible: start the server with "
            "--backend-config=tensorrt,version-compatible=true"
        )
    return lines
