"""Run a recipe: capture the ranker, then stage by stage make, judge and keep artifacts.

::

    OUT/
      run.json                       what happened, and which artifact was chosen
      artifacts/1-capture-…/         what each step made, with the gates' verdicts
      artifacts/2-export_onnx-…/
      logs/…/                        each child's log.txt and reproduce.sh
      .cache/                        results by content, so that nothing is done twice

A kill at any moment leaves whole artifacts only; the next run takes them up and goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from optimize import artifact as artifacts
from optimize.artifact import Artifact, ArtifactError, Verdict, fingerprint, open_artifact
from optimize.build import stage_folder
from optimize.capture import STAGE as CAPTURE
from optimize.children import Limits, run_child
from optimize.gain import Gain, gain_key
from optimize.stages import needs_data, stage_options
from rankers.errors import UserError
from rankers.files import new_folder, remove_leftovers, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optimize.recipe import Recipe, StageUse

# What an artifact gained over the one it was made from, for requests of some sizes.
Measure: TypeAlias = "Callable[[Artifact, Artifact, tuple[int, ...]], Gain]"

RUN_FILE = "run.json"
RUN_SCHEMA = 1


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
        chosen: The last artifact that passed its gates and was not dropped, of a format that can
            be deployed; or None.
        passed: Whether every step of the recipe was reached, and passed or was dropped.
    """

    out: Path
    recipe: str
    results: tuple[StageResult, ...]
    chosen: Artifact | None
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON-ready data; paths are relative to its folder."""
        return {
            "schema": RUN_SCHEMA,
            "recipe": self.recipe,
            "passed": self.passed,
            "chosen": None if self.chosen is None else self._relative(self.chosen),
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
        }

    def _relative(self, artifact: Artifact) -> str:
        return str(artifact.folder.relative_to(self.out))


class Observer(Protocol):
    """Is told how a run goes on."""

    def started(self, stage: str) -> None:
        """A step begins."""

    def finished(self, result: StageResult) -> None:
        """A step ended, with verdicts."""

    def noticed(self, message: str) -> None:
        """Something a person should know."""


class Silent:
    """An observer that says nothing."""

    def started(self, stage: str) -> None:
        """Say nothing."""

    def finished(self, result: StageResult) -> None:
        """Say nothing."""

    def noticed(self, message: str) -> None:
        """Say nothing."""


def run_recipe(
    ranker: str,
    recipe: Recipe,
    out: Path,
    *,
    limits: Limits,
    observer: Observer | None = None,
    measure: Measure | None = None,
) -> Run:
    """Take a ranker through a recipe.

    Args:
        ranker: What `rankers.ranker.load_ranker` takes. It is loaded in a child process.
        recipe: The stages and the limits of the gates.
        out: The run's folder; made if missing. What is there already is used again.
        limits: Of each child process.
        observer: Is told how it goes on.
        measure: Tells what an artifact gained over another at the recipe's sizes; by default they
            are measured in a child process.

    Returns:
        The run, also written to ``OUT/run.json``. A failed gate ends it early, unless the stage is
        one that is kept only if better: that is dropped, and the run goes on from its input.

    Raises:
        UserError: A step could not be done at all, or another run is working in ``out``.
    """
    with _only_run_in(out):
        steps = _Steps(recipe, out, limits, observer or Silent(), measure)
        result = steps.capture(ranker)
        results = [result]
        for use in recipe.stages:
            if not result.artifact.passed:
                break
            made = steps.stage(use, result.artifact)
            if use.keep == "if_better":
                made = steps.weigh(made, result.artifact)
            results.append(made)
            result = result if made.dropped else made
        reached_all = len(results) == len(recipe.stages) + 1
        deployable = [
            each.artifact
            for each in results
            if each.artifact.passed and not each.dropped and each.name != CAPTURE
        ]
        run = Run(
            out=out,
            recipe=recipe.name,
            results=tuple(results),
            chosen=deployable[-1] if deployable else None,
            passed=reached_all and result.artifact.passed,
        )
        write_atomically(out / RUN_FILE, json.dumps(run.to_json(), indent=2) + "\n")
    return run


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


class _Steps:
    """The steps of one run, numbered as they come."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        limits: Limits,
        observer: Observer,
        measure: Measure | None,
    ) -> None:
        self._measure = measure or self._measure_in_child
        self._recipe = recipe
        self._out = out
        self._store = out / ".cache"
        self._limits = limits
        self._observer = observer
        self._number = 0
        self._captured: Artifact | None = None
        self._gates_code = _code_of("gates.py")

    def capture(self, ranker: str) -> StageResult:
        """Load and export the ranker in a child; it alone knows whether its content is known."""
        started = self._begin(CAPTURE)
        existing = set(self._store.glob(f"{CAPTURE}-*"))
        candidates = ",".join(str(each) for each in self._recipe.parity.candidates)
        arguments = ["capture", ranker, "--store", str(self._store), "--candidates", candidates]
        made = Path(self._child(CAPTURE, arguments)["artifact"])
        self._captured = open_artifact(made)
        return self._judge(CAPTURE, self._captured, started, cached=made in existing)

    def stage(self, use: StageUse, source: Artifact) -> StageResult:
        """Run one stage in a child, unless its result is there already."""
        started = self._begin(use.name)
        data = self._captured if needs_data(use.stage) else None
        folder = stage_folder(use.name, use.stage, source, self._store, data=data)
        made = self._open_cached(folder)
        cached = made is not None
        if made is None:
            options = json.dumps(stage_options(use.stage))
            arguments = ["stage", use.name, str(source.folder), "--store", str(self._store)]
            given = [] if data is None else ["--data", str(data.folder)]
            self._child(use.name, [*arguments, *given, "--options", options])
            made = open_artifact(folder)
        return self._judge(use.name, made, started, cached=cached)

    def weigh(self, made: StageResult, source: Artifact) -> StageResult:
        """Say whether a stage that is kept only if better is dropped, and what it gained."""
        if not made.artifact.passed:
            failed = [each for each in made.artifact.manifest.verdicts if not each.passed]
            said = f"{made.name}: {failed[0].gate}: {failed[0].reason}; dropped"
            self._observer.noticed(said)
            return replace(made, dropped=said)
        gain = self._measure(made.artifact, source, self._recipe.measured_at)
        said = f"{made.name}: {gain.describe()}; {'kept' if gain.worth_it else 'dropped'}"
        self._observer.noticed(said)
        return replace(made, gain=gain, dropped="" if gain.worth_it else said)

    def _measure_in_child(
        self, made: Artifact, source: Artifact, candidates: tuple[int, ...]
    ) -> Gain:
        """Measure, unless it was done before: a second measurement might choose otherwise."""
        if self._captured is None:
            raise AssertionError("capture comes first")
        key = gain_key(made, source, self._captured, candidates)
        kept = self._store / f"gain-{key[:16]}.json"
        if not kept.is_file():
            arguments = ["gain", str(made.folder), "--over", str(source.folder)]
            arguments += ["--data", str(self._captured.folder)]
            arguments += ["--candidates", ",".join(map(str, candidates))]
            write_atomically(kept, json.dumps(self._child("gain", arguments), indent=1) + "\n")
        return Gain.from_json(json.loads(kept.read_bytes()))

    def _judge(self, name: str, made: Artifact, started: float, *, cached: bool) -> StageResult:
        """Put the artifact in place with the gates' verdicts, asking them only once."""
        if self._captured is None:
            raise AssertionError("capture comes first")
        key = fingerprint(
            {
                "artifact": made.key,
                "captured": self._captured.key,
                "gates": self._recipe.gates_json(),
                "code": self._gates_code,
            }
        )
        folder = self._out / "artifacts" / f"{self._number}-{name}-{key[:8]}"
        judged = self._open_cached(folder)
        if judged is None:
            verdicts = self._ask_gates(name, made)
            with new_folder(folder) as aside:
                artifacts.seal_with_verdicts(made, verdicts, aside)
            judged = open_artifact(folder)
            cached = False
        result = StageResult(name, judged, time.perf_counter() - started, cached)
        self._observer.finished(result)
        return result

    def _ask_gates(self, name: str, made: Artifact) -> tuple[Verdict, ...]:
        if self._captured is None:
            raise AssertionError("capture comes first")
        limits = json.dumps(self._recipe.gates_json())
        arguments = ["gate", str(made.folder), "--against", str(self._captured.folder)]
        said = self._child(f"{name}-gate", [*arguments, "--limits", limits])
        return tuple(Verdict(**each) for each in said["verdicts"])

    def _open_cached(self, folder: Path) -> Artifact | None:
        """Open what an earlier run left; what is damaged is said by name and made again."""
        if not folder.exists():
            return None
        try:
            return open_artifact(folder)
        except ArtifactError as error:
            self._observer.noticed(f"{error} — making it again")
            shutil.rmtree(folder)
            return None

    def _begin(self, name: str) -> float:
        self._number += 1
        self._observer.started(name)
        return time.perf_counter()

    def _child(self, label: str, arguments: list[str]) -> dict[str, Any]:
        logs = self._out / "logs" / f"{self._number}-{label}"
        return run_child(arguments, logs=logs, limits=self._limits)


@contextmanager
def _only_run_in(out: Path) -> Iterator[None]:
    """Hold ``out`` for one run, and clear what a killed one left half-made."""
    try:
        (out / "artifacts").mkdir(parents=True, exist_ok=True)
        (out / ".cache").mkdir(exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{out}: another run is working here; wait, or use another --out"
            ) from error
        for folder in (out, out / "artifacts", out / ".cache"):
            remove_leftovers(folder)
        yield


def _code_of(name: str) -> str:
    return hashlib.sha256((Path(__file__).parent / name).read_bytes()).hexdigest()
