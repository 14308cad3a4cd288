"""Take every branch of a recipe as far as it goes, measure what passed, keep the best.

A branch that crashes, hangs, runs out of memory, fails a gate or lacks a library ends alone; why is
said, and the others go on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from optimize.devices import unmet_device
from optimize.runtimes import DEPLOYABLE
from optimize.versions import missing_library
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.compare import Ratio
    from optimize.artifact import Artifact
    from optimize.branches import Branch, MeasureOptions
    from optimize.gate_limits import GateLimits
    from optimize.measuring import Measured
    from optimize.recipe import StageUse
    from optimize.run import StageResult

End = Literal["kept", "lost", "failed its gate", "failed", "skipped"]


class Steps(Protocol):
    """What a run can do.

    Attributes:
        device: What it is for: ``cpu`` or ``cuda``.
    """

    device: str

    def stage(
        self, use: StageUse, source: Artifact, gates: GateLimits | None = None
    ) -> StageResult:
        """Run one stage and its gates, by default the recipe's, or raise `UserError`."""
        ...

    def measure(self, artifacts: Mapping[str, Artifact], options: MeasureOptions) -> Measured:
        """Measure artifacts and the original, or raise `UserError`."""
        ...


@dataclass(frozen=True, slots=True)
class BranchResult:
    """What became of a branch.

    Attributes:
        name: The branch's.
        end: How it ended.
        reason: Why, in a line.
        artifact: What it made; None if it did not get there.
    """

    name: str
    end: End
    reason: str
    artifact: Artifact | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What became of all branches.

    Attributes:
        branches: In the recipe's order.
        kept: The artifact to go on with; None if no branch passed, or none that may be kept.
        deployable: The best that a server runs without torch; None if there is none.
        measured: What was measured; None if there was nothing to compare, or measuring failed.
        note: About the measuring, in a line; may be empty.
    """

    branches: tuple[BranchResult, ...]
    kept: Artifact | None
    deployable: Artifact | None
    measured: Measured | None
    note: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What the kept artifact says of the others, a line each."""
        said = [f"{each.name}: {each.end}: {each.reason}" for each in self.branches]
        return tuple(f"auto: {each}" for each in ([self.note] if self.note else []) + said)


def run_branches(
    branches: Sequence[Branch], source: Artifact, steps: Steps, options: MeasureOptions
) -> Chosen:
    """Run all branches from one artifact, one at a time, and choose.

    Args:
        branches: Simplest first.
        source: What all of them read.
        steps: The run's.
        options: How they are measured.
    """
    ended = [_run_branch(each, source, steps) for each in branches]
    built = {each.name: each.artifact for each in ended if each.artifact is not None}
    if not built:
        return Chosen(tuple(ended), None, None, None, "")
    may_be = [name for name in built if name not in options.rivals]
    deployable = next((name for name in may_be if _is_deployable(built[name])), None)
    try:
        measured = steps.measure(built, options)
    except UserError as error:
        # They passed their gates, so the simplest is right, if perhaps not the fastest.
        kept = deployable if options.deployable_only else next(iter(may_be), None)
        ended = _end(ended, kept, dict.fromkeys(built, "passed its gates, but was not measured"))
        note = f"not measured, so the first that passed is kept: {error}"
        return Chosen(tuple(ended), built.get(kept or ""), built.get(deployable or ""), None, note)
    kept, deployable = measured.kept, measured.deployable
    ended = _end(ended, kept, {name: _reason(name, measured) for name in built})
    return Chosen(
        tuple(ended),
        built.get(kept or ""),
        built.get(deployable or ""),
        measured,
        _note(measured, built, {each.name for each in branches if each.gates is not None}),
    )


def libraries(branch: Branch) -> tuple[str, ...]:
    """Return the distributions that a branch's stages need, also for what stages before did."""
    named: list[str] = []
    for place, use in enumerate(branch.stages):
        named += use.stage.needs
        after: Mapping[str, tuple[str, ...]] = getattr(use.stage, "needs_after", {})
        for each in branch.stages[:place]:
            named += after.get(each.name, ())
    return tuple(named)


def _run_branch(branch: Branch, source: Artifact, steps: Steps) -> BranchResult:
    missing = missing_library(libraries(branch))
    missing = missing or unmet_device((use.stage for use in branch.stages), steps.device)
    if missing:
        return BranchResult(branch.name, "skipped", missing)
    made = source
    for use in branch.stages:
        try:
            result = steps.stage(use, made, branch.gates)
        except UserError as error:
            return BranchResult(branch.name, "failed", f"{use.name}: {error}")
        if result.dropped:  # the branch goes on without it
            continue
        idle = result.artifact.key == made.key
        made = result.artifact
        for verdict in made.manifest.verdicts:
            if not verdict.passed:
                reason = f"{use.name}: {verdict.gate}: {verdict.reason}"
                return BranchResult(branch.name, "failed its gate", reason)
        idle = idle and getattr(use.stage, "idle_ends_branch", False)
        if idle or branch.layout not in (None, made.manifest.layout):
            said = [each for each in made.manifest.notes if each.startswith(f"{use.name}: ")]
            reason = said[-1] if said else f"{use.name} made a {made.manifest.layout} artifact"
            return BranchResult(branch.name, "skipped", reason)
    return BranchResult(branch.name, "lost", "", made)


def _is_deployable(artifact: Artifact) -> bool:
    return artifact.manifest.format in DEPLOYABLE


def _end(
    ended: Sequence[BranchResult], kept: str | None, reasons: Mapping[str, str]
) -> list[BranchResult]:
    """Say of the branches that have reasons which was kept."""
    return [
        replace(each, end="kept" if each.name == kept else "lost", reason=reasons[each.name])
        if each.name in reasons
        else each
        for each in ended
    ]


def _reason(name: str, measured: Measured) -> str:
    """Say what was measured of an artifact, and how it compares with what was kept."""
    found = next(each for each in measured.comparison.measurements if each.target["name"] == name)
    percentiles = [
        f"{label} {each.value_us / 1000:.3g} ms"
        for label, quantile in (("p50", 0.5), ("p99", 0.99))
        if (each := found.percentile(quantile)) is not None
    ]
    compared = [_ratio_text(each) for each in measured.comparison.ratios if each.target == name]
    return "; ".join([", ".join(percentiles), *compared])


def _ratio_text(ratio: Ratio) -> str:
    label = f"p{ratio.quantile * 100:g}"
    if ratio.low is None or ratio.high is None:
        interval = "too few requests for an interval"
    else:
        interval = f"{ratio.low:.2f} to {ratio.high:.2f}"
    return f"{ratio.verdict} at {label}: {ratio.value:.2f} times {ratio.baseline} ({interval})"


def _note(measured: Measured, built: Mapping[str, Artifact], own_gates: set[str]) -> str:
    said = []
    kept = built.get(measured.kept or "")
    fastest = built.get(measured.fastest)  # None for the original
    if measured.kept in own_gates:
        said.append("what is kept was held to its branch's limits, not the recipe's")
    if kept is not None and not _is_deployable(kept):
        said.append("a server runs it with torch and rankserve beside it")
        if measured.deployable is not None:
            said.append(f"the best that needs neither is {measured.deployable}")
    elif measured.kept != measured.fastest and (fastest is None or not _is_deployable(fastest)):
        said.append(
            f"the fastest of all is {measured.fastest}, which no server runs without torch and "
            "rankserve"
        )
    for each in measured.comparison.measurements:
        if each.void:
            said.append(
                f"the measurement of {each.target['name']} is void: {each.void[0]}; to measure "
                "anew, remove .cache/measure-* from the run's folder"
            )
            break
    return "; ".join(said)


def branches_json(chosen: Chosen, relative: Any) -> dict[str, Any]:
    """Return what became of branches as JSON-ready data.

    Args:
        chosen: What `run_branches` returned.
        relative: Makes an artifact the path that the run's file says.
    """
    return {
        "branches": [
            {
                "name": each.name,
                "end": each.end,
                "reason": each.reason,
                "artifact": None if each.artifact is None else relative(each.artifact),
            }
            for each in chosen.branches
        ],
        "note": chosen.note,
        "duels": {} if chosen.measured is None else chosen.measured.duels,
    }
