"""Run a recipe: capture the ranker, then stage by stage make, judge and keep artifacts.

::

    OUT/
      run.json                       what happened, and which artifact was chosen
      artifacts/1-capture-…/         what each step made, with the gates' verdicts
      artifacts/2-export_onnx-…/
      measurements.json              of a recipe with branches: a results file of the bench
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
from optimize.branching import Chosen, branches_json, run_branches
from optimize.build import stage_folder
from optimize.capture import STAGE as CAPTURE
from optimize.children import Limits, run_child
from optimize.devices import no_cuda, runtime_device, unmet_device
from optimize.gain import Gain, gain_key
from optimize.measuring import Measured, measurement_key
from optimize.runtimes import DEPLOYABLE
from optimize.stages import needs_data, stage_options
from rankers.errors import UserError
from rankers.files import new_folder, remove_leftovers, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from optimize.branches import MeasureOptions
    from optimize.recipe import Recipe, StageUse

# What an artifact gained over the one it was made from, for requests of some sizes.
MeasureGain: TypeAlias = "Callable[[Artifact, Artifact, tuple[int, ...]], Gain]"

RUN_FILE = "run.json"
RUN_SCHEMA = 1
MEASUREMENTS = "measurements.json"
# What decides verdicts beside the limits: the gates, and what they compute with.
_GATES = (
    "optimize/gates/*.py",
    "optimize/score_map.py",
    "rankers/evaluation/*.py",
    *(
        f"rankers/{each}.py"
        for each in ("quality", "metrics", "cutoffs", "intervals", "rounding", "stability", "seen")
    ),
)


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
    measure_gain: MeasureGain | None = None,
    device: str = "cpu",
) -> Run:
    """Take a ranker through a recipe.

    Args:
        ranker: What `rankers.ranker.load_ranker` takes. It is loaded in a child process.
        recipe: The stages and the limits of the gates.
        out: The run's folder; made if missing. What is there already is used again.
        limits: Of each child process.
        observer: Is told how it goes on.
        measure_gain: Tells what an artifact gained over another at the recipe's sizes; by default
            they are measured in a child process.
        device: Where artifacts are judged and measured, if their format can run there. Branches
            that are for another one are skipped; where there is none, all run on the CPU.

    Returns:
        The run, also written to ``OUT/run.json``. A failed gate ends it early, unless the stage is
        one that is kept only if better, or if passed: that is dropped, and the run goes on from its
        input.

    Raises:
        UserError: A step could not be done at all, a stage is for a device that is not there, or
            another run is working in ``out``.
    """
    observer = observer or Silent()
    missing = no_cuda() if device == "cuda" else None
    if missing:
        observer.noticed(f"--device cuda: skipped: {missing}; the run goes on on the CPU")
        device = "cpu"
    unmet = unmet_device((use.stage for use in recipe.stages), device)
    if unmet:
        raise UserError(f"recipe {recipe.name!r}: {unmet}")
    with _only_run_in(out):
        steps = _Steps(recipe, out, limits, observer, measure_gain, device=device)
        result = steps.capture(ranker)
        for use in recipe.stages:
            if not result.artifact.passed:
                break
            made = steps.stage(use, result.artifact)
            result = result if made.dropped else made
        reached_all = len(steps.results) == len(recipe.stages) + 1
        if recipe.branches and reached_all and result.artifact.passed:
            run = _run_branches(recipe, result.artifact, steps, out)
        else:
            deployable = [
                each.artifact
                for each in steps.results
                if each.artifact.passed and not each.dropped and each.name != CAPTURE
            ]
            run = Run(
                out=out,
                recipe=recipe.name,
                results=tuple(steps.results),
                chosen=deployable[-1] if deployable else None,
                passed=reached_all and result.artifact.passed and not recipe.branches,
            )
        write_atomically(out / RUN_FILE, json.dumps(run.to_json(), indent=2) + "\n")
    return run


def _run_branches(recipe: Recipe, source: Artifact, steps: _Steps, out: Path) -> Run:
    chosen = run_branches(recipe.branches, source, steps, recipe.measure)
    kept = None if chosen.kept is None else steps.keep(chosen.kept, chosen.notes)
    run = Run(
        out, recipe.name, tuple(steps.results), kept, passed=kept is not None, branches=chosen
    )
    if chosen.measured is not None:
        from bench.results_file import save_results

        save_results(chosen.measured.comparison, out / MEASUREMENTS)
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
    """The steps of one run, numbered as they come.

    Attributes:
        device: Where artifacts are judged and measured.
        results: Of the steps that were done, in order.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        limits: Limits,
        observer: Observer,
        measure_gain: MeasureGain | None,
        *,
        device: str,
    ) -> None:
        self.device = device
        self._measure_gain = measure_gain or self._gain_in_child
        self._recipe = recipe
        self._out = out
        self._store = out / ".cache"
        self._limits = limits
        self._observer = observer
        self._number = 0
        self._captured: Artifact | None = None
        self._gates_code = _code_of(*_GATES)
        self.results: list[StageResult] = []
        # Branches begin alike: what was done, or could not be done, is not tried again.
        self._ended: dict[Path, StageResult | UserError] = {}

    def capture(self, ranker: str) -> StageResult:
        """Load and export the ranker in a child; it alone knows whether its content is known."""
        started = self._begin(CAPTURE)
        existing = set(self._store.glob(f"{CAPTURE}-*"))
        candidates = ",".join(str(each) for each in self._recipe.parity.candidates)
        arguments = ["capture", ranker, "--store", str(self._store), "--candidates", candidates]
        made = Path(self._child(CAPTURE, arguments)["artifact"])
        self._captured = open_artifact(made)
        result = self._judge(CAPTURE, self._captured, started, cached=made in existing)
        self.results.append(result)
        return result

    def stage(self, use: StageUse, source: Artifact) -> StageResult:
        """Run one stage in a child, unless its result is there, and weigh it if it is to pay."""
        data = self._captured if needs_data(use.stage) else None
        folder = stage_folder(use.name, use.stage, source, self._store, data=data)
        if folder not in self._ended:
            try:
                made = self._run_stage(use, source, folder, data)
                weighed = made if use.keep == "always" else self._weigh(use, made, source)
                self.results.append(weighed)
                self._ended[folder] = weighed
            except UserError as error:
                self._ended[folder] = error
        ended = self._ended[folder]
        if isinstance(ended, UserError):
            raise ended
        return ended

    def measure(self, measured: Mapping[str, Artifact], options: MeasureOptions) -> Measured:
        """Measure artifacts in a child, unless the same were measured on this machine before."""
        if self._captured is None:
            raise AssertionError("capture comes first")
        self._begin("measure")
        key = measurement_key(measured, self._captured, options, device=self.device)
        folder = self._store / f"measure-{key[:16]}"
        if not folder.exists():
            named = [f"{name}={each.folder}" for name, each in measured.items()]
            arguments = ["measure", *named, "--against", str(self._captured.folder)]
            settings = ["--options", json.dumps(options.to_json()), "--out", str(folder)]
            self._child("measure", [*arguments, *settings, *self._on_device()])
        return Measured.read(folder)

    def keep(self, artifact: Artifact, notes: tuple[str, ...]) -> Artifact:
        """Put the artifact that a run chose in place, with what it has to say of the others."""
        self._number += 1
        kept = (*artifact.manifest.notes, *notes)
        key = fingerprint({"artifact": artifact.manifest.to_json()["sha256"], "notes": kept})
        folder = self._out / "artifacts" / f"{self._number}-kept-{key[:8]}"
        if self._open_cached(folder) is None:
            with new_folder(folder) as aside:
                verdicts = artifact.manifest.verdicts
                artifacts.seal_with_verdicts(artifact, verdicts, aside, notes=kept)
        return open_artifact(folder)

    def _run_stage(
        self, use: StageUse, source: Artifact, folder: Path, data: Artifact | None
    ) -> StageResult:
        started = self._begin(use.name)
        made = self._open_cached(folder)
        cached = made is not None
        if made is None:
            options = json.dumps(stage_options(use.stage))
            arguments = ["stage", use.name, str(source.folder), "--store", str(self._store)]
            given = [] if data is None else ["--data", str(data.folder)]
            self._child(use.name, [*arguments, *given, "--options", options])
            made = open_artifact(folder)
        return self._judge(use.name, made, started, cached=cached)

    def _weigh(self, use: StageUse, made: StageResult, source: Artifact) -> StageResult:
        """Say whether a stage that need not be kept is dropped, and what it gained."""
        if not made.artifact.passed:
            failed = [each for each in made.artifact.manifest.verdicts if not each.passed]
            said = f"{made.name}: {failed[0].gate}: {failed[0].reason}; dropped"
            self._observer.noticed(said)
            return replace(made, dropped=said)
        if use.keep == "if_passed":  # what it is for is not speed or size here
            self._observer.noticed(f"{made.name}: passed its gates; kept, its speed not measured")
            return made
        gain = self._measure_gain(made.artifact, source, self._recipe.measured_at)
        said = f"{made.name}: {gain.describe()}; {'kept' if gain.worth_it else 'dropped'}"
        self._observer.noticed(said)
        return replace(made, gain=gain, dropped="" if gain.worth_it else said)

    def _gain_in_child(self, made: Artifact, source: Artifact, candidates: tuple[int, ...]) -> Gain:
        """Measure, unless it was done before: a second measurement might choose otherwise."""
        if self._captured is None:
            raise AssertionError("capture comes first")
        key = gain_key(made, source, self._captured, candidates, device=self.device)
        kept = self._store / f"gain-{key[:16]}.json"
        if not kept.is_file():
            arguments = ["gain", str(made.folder), "--over", str(source.folder)]
            arguments += ["--data", str(self._captured.folder)]
            arguments += ["--candidates", ",".join(map(str, candidates)), *self._on_device()]
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
            | ({} if self._runs_on(made) == "cpu" else {"device": self._runs_on(made)})
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
        arguments += self._on_device()
        said = self._child(f"{name}-gate", [*arguments, "--limits", limits])
        return tuple(Verdict(**each) for each in said["verdicts"])

    def _on_device(self) -> list[str]:
        """Return the option of a child on another device than the CPU."""
        return [] if self.device == "cpu" else ["--device", self.device]

    def _runs_on(self, artifact: Artifact) -> str:
        return runtime_device(artifact.manifest, self.device)

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


def _code_of(*names: str) -> list[str]:
    root = Path(__file__).parents[1]
    files = [file for name in names for file in sorted(root.glob(name))]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
