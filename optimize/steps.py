"""The steps of one run: made in child processes, judged, put in place and, at need, weighed."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from optimize import artifact as artifacts
from optimize.artifact import Artifact, ArtifactError, open_artifact
from optimize.build import stage_folder
from optimize.capture import STAGE as CAPTURE
from optimize.checksums import fingerprint
from optimize.children import Limits, run_child
from optimize.devices import runtime_device
from optimize.gain import Gain, gain_key
from optimize.measuring import Measured, measurement_key
from optimize.run import StageResult
from optimize.stages import needs_data, stage_options
from optimize.verdicts import Verdict
from rankers.errors import UserError
from rankers.files import new_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optimize.branches import MeasureOptions
    from optimize.gate_limits import GateLimits
    from optimize.recipe import Recipe, StageUse
    from optimize.warm import Warm

# What an artifact gained over the one it was made from, for requests of some sizes.
MeasureGain: TypeAlias = "Callable[[Artifact, Artifact, tuple[int, ...]], Gain]"

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


class Steps:
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
        warm: Warm | None = None,
    ) -> None:
        self.device = device
        self._warm = warm
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
        # Branches begin alike: what was done and judged by some limits is there for the others that
        # have them, and what could not be done is not tried again by any.
        self._judged: dict[tuple[Path, str], StageResult] = {}
        self._failed: dict[Path, UserError] = {}

    def capture(self, ranker: str) -> StageResult:
        """Load and export the ranker in a child; it alone knows whether its content is known."""
        started = self._begin(CAPTURE)
        existing = set(self._store.glob(f"{CAPTURE}-*"))
        # A dict keeps the recipe's order: probes are drawn in it.
        asked = dict.fromkeys(self._recipe.parity.candidates)
        for each in self._recipe.branches:
            asked |= dict.fromkeys(each.gates.parity.candidates if each.gates else ())
        candidates = ",".join(map(str, asked))
        arguments = ["capture", ranker, "--store", str(self._store), "--candidates", candidates]
        made = Path(self._child(CAPTURE, arguments)["artifact"])
        self._captured = open_artifact(made)
        result = self._judge(
            CAPTURE, self._captured, started, self._recipe.gates, cached=made in existing
        )
        self.results.append(result)
        return result

    def stage(
        self, use: StageUse, source: Artifact, gates: GateLimits | None = None
    ) -> StageResult:
        """Run one stage in a child, unless its result is there, and weigh it if it is to pay.

        Args:
            use: The stage.
            source: What it reads.
            gates: What the result is held to; by default the recipe's limits.
        """
        gates = gates or self._recipe.gates
        data = self._captured if needs_data(use.stage) else None
        folder = stage_folder(use.name, use.stage, source, self._store, data=data)
        if folder in self._failed:
            raise self._failed[folder]
        asked = (folder, json.dumps(gates.to_json()))
        if asked not in self._judged:
            try:
                made = self._run_stage(use, source, folder, data, gates)
                weighed = made if use.keep == "always" else self._weigh(use, made, source)
            except UserError as error:
                self._failed[folder] = error
                raise
            self.results.append(weighed)
            self._judged[asked] = weighed
        return self._judged[asked]

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
        self,
        use: StageUse,
        source: Artifact,
        folder: Path,
        data: Artifact | None,
        gates: GateLimits,
    ) -> StageResult:
        started = self._begin(use.name)
        made = self._open_cached(folder)
        cached = made is not None
        if made is None:
            options = json.dumps(stage_options(use.stage))
            arguments = ["stage", use.name, str(source.folder), "--store", str(self._store)]
            given = [] if data is None else ["--data", str(data.folder)]
            self._child(use.name, [*arguments, *given, "--options", options], reads=source)
            made = open_artifact(folder)
        return self._judge(use.name, made, started, gates, cached=cached)

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

    def _judge(
        self, name: str, made: Artifact, started: float, gates: GateLimits, *, cached: bool
    ) -> StageResult:
        """Put the artifact in place with the gates' verdicts, asking them only once."""
        if self._captured is None:
            raise AssertionError("capture comes first")
        key = fingerprint(
            {
                "artifact": made.key,
                "captured": self._captured.key,
                "gates": gates.to_json(),
                "code": self._gates_code,
            }
            | ({} if self._runs_on(made) == "cpu" else {"device": self._runs_on(made)})
        )
        folder = self._out / "artifacts" / f"{self._number}-{name}-{key[:8]}"
        judged = self._open_cached(folder)
        if judged is None:
            verdicts = self._ask_gates(name, made, gates)
            with new_folder(folder) as aside:
                artifacts.seal_with_verdicts(made, verdicts, aside)
            judged = open_artifact(folder)
            cached = False
        result = StageResult(name, judged, time.perf_counter() - started, cached)
        self._observer.finished(result)
        return result

    def _ask_gates(self, name: str, made: Artifact, gates: GateLimits) -> tuple[Verdict, ...]:
        if self._captured is None:
            raise AssertionError("capture comes first")
        limits = json.dumps(gates.to_json())
        arguments = ["gate", str(made.folder), "--against", str(self._captured.folder)]
        arguments += self._on_device()
        said = self._child(f"{name}-gate", [*arguments, "--limits", limits], reads=made)
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

    def _child(
        self, label: str, arguments: list[str], *, reads: Artifact | None = None
    ) -> dict[str, Any]:
        """Run a child; one that only reads a torch program on the CPU may be a forked one.

        The user's code and measurements get a process in which nothing was imported before, and
        what needs no torch starts as fast without.
        """
        logs = self._out / "logs" / f"{self._number}-{label}"
        torch_alone = reads is not None and reads.manifest.format == "torch"
        warm = self._warm if torch_alone and self.device == "cpu" else None
        return run_child(arguments, logs=logs, limits=self._limits, warm=warm)


def _code_of(*names: str) -> list[str]:
    root = Path(__file__).parents[1]
    files = [file for name in names for file in sorted(root.glob(name))]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
