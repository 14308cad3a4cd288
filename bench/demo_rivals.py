"""The demo's other runtimes: made from the run's artifacts, gated as they were, measured beside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.artifact import Artifact
    from optimize.recipe import Recipe
    from optimize.run import Run


@dataclass(frozen=True, slots=True)
class Rival:
    """Another runtime for the demo's ranker.

    Attributes:
        name: What the table calls it.
        stage: What makes its artifact.
        sources: Steps of a run; the stage reads the artifact of the first that the run has.
    """

    name: str
    stage: str
    sources: tuple[str, ...]


RIVALS = {
    "openvino": Rival("OpenVINO", "export_openvino", ("export_onnx",)),
    "inductor": Rival("AOTInductor", "compile_inductor", ("user_once", "capture")),
}


def read_rivals(text: str) -> tuple[str, ...]:
    """Read names of `RIVALS` with commas between them; none for an empty text.

    Raises:
        UserError: One is unknown.
    """
    names = tuple(each.strip() for each in text.split(",") if each.strip())
    for name in names:
        if name not in RIVALS:
            raise UserError(f"no runtime {name!r}; {nearest(name, RIVALS)}")
    return names


def make_rivals(
    run: Run, recipe: Recipe, names: Sequence[str]
) -> tuple[dict[str, Artifact], tuple[str, ...]]:
    """Make and judge artifacts for other runtimes, each in child processes with limits.

    Args:
        run: A finished run.
        recipe: Whose gates judge.
        names: Keys of `RIVALS`.

    Returns:
        The artifacts that passed every gate, by the name in the table, and a line about each of the
        others: not installed, failed, or stopped by a gate.
    """
    from optimize.stages import stage_class
    from optimize.versions import missing_library

    made: dict[str, Artifact] = {}
    others = []
    for rival in (RIVALS[name] for name in names):
        missing = missing_library(stage_class(rival.stage).needs)
        if missing:
            others.append(f"{rival.name}: {missing}")
            continue
        try:
            artifact = _make(rival, run, recipe)
        except UserError as error:
            others.append(f"{rival.name}: {error}")
            continue
        stopped = [each for each in artifact.manifest.verdicts if not each.passed]
        if stopped:
            others.append(f"{rival.name}: {stopped[0].gate} FAILED: {stopped[0].reason}")
        else:
            made[rival.name] = artifact
    return made, tuple(others)


def _make(rival: Rival, run: Run, recipe: Recipe) -> Artifact:
    """Make an artifact and put it beside the run, with the gates' verdicts."""
    from optimize.artifact import open_artifact, seal_with_verdicts
    from optimize.capture import STAGE as CAPTURE
    from optimize.children import default_limits, run_child
    from optimize.verdicts import Verdict
    from rankers.files import new_folder

    made = {each.name: each.artifact.folder for each in run.results}

    def child(*arguments: str) -> dict[str, Any]:
        logs = run.out / "logs" / f"{rival.stage}-{arguments[0]}"
        return run_child(arguments, logs=logs, limits=default_limits())

    source = next(made[each] for each in rival.sources if each in made)
    store = str(run.out / ".cache")
    said = child("stage", rival.stage, str(source), "--store", store)
    artifact = open_artifact(Path(said["artifact"]))
    folder = run.out.parent / "rivals" / f"{rival.stage}-{artifact.key[:12]}"
    if not folder.is_dir():
        against = ["--against", str(made[CAPTURE])]
        limits = ["--limits", json.dumps(recipe.gates_json())]
        judged = child("gate", str(artifact.folder), *against, *limits)
        verdicts = tuple(Verdict(**each) for each in judged["verdicts"])
        with new_folder(folder) as aside:
            seal_with_verdicts(artifact, verdicts, aside)
    return open_artifact(folder)
