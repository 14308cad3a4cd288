"""A run: what became of a recipe, step by step, and the artifact that was chosen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.artifact import Artifact, open_artifact
from optimize.branching import Chosen, branches_json
from optimize.runtimes import DEPLOYABLE
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.gain import Gain

RUN_FILE = "run.json"
RUN_SCHEMA = 1
MEASUREMENTS = "measurements.json"


@dataclass(frozen=True, slots=True)
class StageResult:
    """One step of a run.

    Attributes:
        name: The stage's name; ``capture`` for the first.
        artifact: What it made, with verdicts.
        seconds: How long the step took in this run, gates included.
        cached: Whether it had been made before.
        gain: What it gained over its input; None where that was not asked.
        dropped: Why the run went on from its input; empty if it did not.
    """

    name: str
    artifact: Artifact
    seconds: float
    cached: bool
    gain: Gain | None = None
    dropped: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a recipe.

    Attributes:
        out: The run's folder.
        recipe: The recipe's name.
        results: One for each step that was reached.
        chosen: The last artifact that passed its gates and was not dropped, of a format that can be
            deployed; or None.
        passed: Whether every step of the recipe was reached, and passed or was dropped; of its
            branches, whether one was kept.
        branches: What became of them; None if the recipe has none, or they were not reached.
    """

    out: Path
    recipe: str
    results: tuple[StageResult, ...]
    chosen: Artifact | None
    passed: bool
    branches: Chosen | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON-ready data; paths are relative to its folder."""
        return {
            "schema": RUN_SCHEMA,
            "recipe": self.recipe,
            "passed": self.passed,
            "chosen": None if self.chosen is None else self._relative(self.chosen),
            "best_deployable": self._best_deployable(),
            "stages": [
                {
                    "stage": each.name,
                    "artifact": self._relative(each.artifact),
                    "format": each.artifact.manifest.format,
                    "precision": each.artifact.manifest.precision,
                    "model_bytes": each.artifact.model_bytes,
                    "passed": each.artifact.passed,
                    "cached": each.cached,
                    "seconds": round(each.seconds, 3),
                    "verdicts": [one.to_json() for one in each.artifact.manifest.verdicts],
                    "gain": None if each.gain is None else each.gain.to_json(),
                    "dropped": each.dropped,
                }
                for each in self.results
            ],
        } | ({} if self.branches is None else branches_json(self.branches, self._relative))

    def _best_deployable(self) -> str | None:
        """Return the path of what to deploy where what was chosen cannot be."""
        if self.branches is not None:
            best = self.branches.deployable
        else:
            passed = (each.artifact for each in self.results if each.artifact.passed)
            best = next(
                (each for each in reversed([*passed]) if each.manifest.format in DEPLOYABLE), None
            )
        return None if best is None else self._relative(best)

    def _relative(self, artifact: Artifact) -> str:
        return str(artifact.folder.relative_to(self.out))


def find_artifact(path: Path) -> Artifact:
    """Open an artifact by its folder, or the one that a run chose by the run's folder.

    Raises:
        UserError: There is neither, or the run chose none.
    """
    run_file = path / RUN_FILE
    if not run_file.is_file():
        return open_artifact(path)
    try:
        chosen = json.loads(run_file.read_bytes())["chosen"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run_file}: not a rankserve run: {error}") from error
    if chosen is None:
        raise UserError(f"{path}: no artifact of this run passed its gates; see {run_file}")
    return open_artifact(path / chosen)
