"""What the stage ``user_once`` left beside its program, found and read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.artifact import Artifact, ArtifactError, open_artifact
from optimize.run import RUN_FILE, find_artifact
from optimize.stages.user_once import REPORT, REPORT_SCHEMA
from optimize.user_once.diagram import Diagram
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from rankers.features import Signature

_STAGE = "user_once"


@dataclass(frozen=True, slots=True)
class Taken:
    """What one request takes, in one form of the program.

    Attributes:
        operators: How many, by side.
        multiply_adds: Of products and attention, by side.
        gathered_bytes: Read from tables.
        modelled_ms_at: How long the cost model expects it to take, by number of candidates.
        diagram: The graph; None if it could not be drawn.
    """

    operators: dict[str, int]
    multiply_adds: dict[str, int]
    gathered_bytes: int
    modelled_ms_at: dict[int, float]
    diagram: Diagram | None

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Taken | None:
        """Read what `optimize.user_once.account.Account.to_json` wrote; None stays None."""
        if data is None:
            return None
        diagram = data["diagram"]
        return cls(
            operators=dict(data["operators"]),
            multiply_adds=dict(data["multiply_adds"]),
            gathered_bytes=int(data["gathered_bytes"]),
            modelled_ms_at={int(n): float(ms) for n, ms in data["modelled_ms_at"].items()},
            diagram=None if diagram is None else Diagram.from_json(diagram),
        )


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What became of a ranker.

    Attributes:
        ranker: Its name.
        signature: Its features.
        served: The key of the artifact that was asked for: the one that a run chose.
        rewritten: Whether the user's part is computed once; else the flat program was kept.
        reason: Why.
        candidates: Of the request that work is counted for.
        rewrites: What each rewrite did, a line each time.
        before: Of the flat program; None if it could not be read.
        after: Of the split one, also where it was not kept; None where none was made.
    """

    ranker: str
    signature: Signature
    served: str
    rewritten: bool
    reason: str
    candidates: int
    rewrites: dict[str, list[str]]
    before: Taken | None
    after: Taken | None


def read_split_report(path: Path) -> SplitReport:
    """Read what ``user_once`` did, by the folder of a run or of an artifact of one.

    Raises:
        UserError: There is no artifact, the stage had no part in it, or an older rankserve wrote
            what it left.
    """
    artifact = _artifact_of_stage(path)
    file = artifact.folder / REPORT
    data = json.loads(file.read_bytes())
    if data.get("schema") != REPORT_SCHEMA:
        raise UserError(
            f"{file}: schema {data.get('schema', 1)}; this rankserve reads {REPORT_SCHEMA}: run "
            "the recipe again, or upgrade rankserve"
        )
    return SplitReport(
        ranker=artifact.manifest.name,
        signature=artifact.manifest.signature,
        served=_served(path, artifact).key,
        rewritten=data["rewritten"],
        reason=data["reason"],
        candidates=data["candidates"],
        rewrites=data["rewrites"],
        before=Taken.from_json(data["before"]),
        after=Taken.from_json(data["after"]),
    )


def _artifact_of_stage(path: Path) -> Artifact:
    """Find the artifact that the stage made: of a run, by itself, or in the run it is part of."""
    if (path / RUN_FILE).is_file():
        return _in_run(path)
    artifact = open_artifact(path)
    if REPORT in artifact.manifest.files:
        return artifact
    run = path.resolve().parent.parent
    used = any(step.stage == _STAGE for step in artifact.manifest.lineage)
    if used and (run / RUN_FILE).is_file():
        return _in_run(run)
    if used:
        raise UserError(
            f"{path}: was made from what the stage {_STAGE!r} made, which is not here: name the "
            "run's folder, or that stage's artifact"
        )
    raise _no_part(path)


def _in_run(run: Path) -> Artifact:
    try:
        stages = json.loads((run / RUN_FILE).read_bytes())["stages"]
        found = [each["artifact"] for each in stages if each["stage"] == _STAGE]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run / RUN_FILE}: not a rankserve run: {error}") from error
    if not found:
        raise _no_part(run)
    artifact = open_artifact(run / found[-1])
    if REPORT not in artifact.manifest.files:
        raise ArtifactError(f"{artifact.folder}: {REPORT} is missing: run the recipe again")
    return artifact


def _served(path: Path, made: Artifact) -> Artifact:
    """Return what would be deployed; what the stage made itself if the run chose nothing."""
    try:
        return find_artifact(path)
    except UserError:
        return made


def _no_part(path: Path) -> UserError:
    return UserError(
        f"{path}: the stage {_STAGE!r} had no part in it, so there is nothing to report: use a "
        "recipe that has it, such as cpu-fp32"
    )
