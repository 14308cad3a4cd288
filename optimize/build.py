"""Run one stage on one artifact, once: the result is kept under a key of all it depends on."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from optimize.artifact import EVIDENCE, Artifact, Step, open_artifact, seal
from optimize.capture import CALIBRATION, load_calibration
from optimize.checksums import fingerprint
from optimize.instruction_sets import instruction_sets
from optimize.stages import made_for_cpu, make_stage, needs_data, stage_options
from optimize.versions import library_versions, require_libraries
from rankers.errors import UserError
from rankers.files import new_folder
from rankers.ranker import FILES

if TYPE_CHECKING:
    from optimize.artifact import Manifest
    from optimize.stages import LearningStage, Stage


def stage_folder(
    name: str, stage: Stage, source: Artifact, store: Path, *, data: Artifact | None = None
) -> Path:
    """Return where in ``store`` the result of a stage is, or will be.

    The name ends in a fingerprint of the stage, its options and code, the libraries' versions, the
    content of the artifact that it reads, and, where they decide the result, the requests that it
    learns from and the CPU's instruction sets.
    """
    own = Path(sys.modules[type(stage).__module__].__file__ or "")
    package = own.parents[1]
    files = [own, *(file for each in stage.code for file in sorted(package.glob(each)))]
    depends = (
        {
            "stage": name,
            "options": stage_options(stage),
            "code": [hashlib.sha256(each.read_bytes()).hexdigest() for each in files],
            "versions": library_versions(*stage.needs),
            "source": source.key,
        }
        | _learnt_from(name, stage, data)
        | ({"isa": list(instruction_sets())} if made_for_cpu(stage) else {})
    )
    read = [_content(name, each) for each in getattr(stage, "reads", ())]
    if read:
        depends["read"] = read
    return store / f"{name}-{fingerprint(depends)[:16]}"


def _content(stage: str, path: Path) -> str:
    """Fingerprint a file that an option names: its content decides the result, not its name."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"stage {stage!r}: {path} cannot be read: {error}") from error


def run_stage(
    name: str,
    options: dict[str, Any],
    source: Artifact,
    store: Path,
    *,
    data: Artifact | None = None,
) -> Artifact:
    """Run a stage, or return what it made before.

    Args:
        name: The stage's name.
        options: Its options; the rest have their defaults.
        source: The artifact it reads.
        store: The folder that keeps results.
        data: The captured ranker, for a stage that learns from its calibration requests.

    Raises:
        UserError: The stage cannot read this format, cannot convert the model, or needs a library
            or calibration requests that are not there.
    """
    stage = make_stage(name, options)
    if source.manifest.format != stage.consumes:
        raise UserError(
            f"stage {name!r} reads {stage.consumes} artifacts; {source.folder} is "
            f"{source.manifest.format}"
        )
    if source.manifest.layout == "user_state":
        # Any other would convert one of the two graphs and lose the other.
        raise UserError(
            f"stage {name!r} reads one graph; {source.folder} has two: user_state is the last stage"
        )
    require_libraries(*stage.needs)
    folder = stage_folder(name, stage, source, store, data=data)
    if not folder.exists():
        started = time.perf_counter()
        with new_folder(folder) as aside:
            manifest = _run(stage, source, aside, data)
            if (source.folder / FILES).is_dir():
                shutil.copytree(source.folder / FILES, aside / FILES)
            step = Step(
                stage=name,
                options=stage_options(stage),
                source=source.key,
                versions=library_versions(*stage.needs),
                seconds=round(time.perf_counter() - started, 3),
            )
            lineage = (*source.manifest.lineage, step)
            seal(aside, replace(manifest, lineage=lineage, verdicts=()))
    return open_artifact(folder)


def _learnt_from(name: str, stage: Stage, data: Artifact | None) -> dict[str, str]:
    """Return the part of the key that the requests are which a stage learns from.

    Raises:
        UserError: The stage needs such requests, and there are none.
    """
    if not needs_data(stage):
        return {}
    if data is None:
        raise UserError(
            f"stage {name!r} learns from calibration requests: name the captured ranker that has "
            "them with --data, a capture folder of a run"
        )
    content = data.manifest.files.get(f"{EVIDENCE}/{CALIBRATION}")
    if content is None:
        raise UserError(
            f"stage {name!r} learns from calibration requests, and ranker {data.manifest.name!r} "
            "has none: give some from training, not from evaluation, with Ranker(calibration=…)"
        )
    return {"calibration": content}


def _run(stage: Stage, source: Artifact, folder: Path, data: Artifact | None) -> Manifest:
    if not needs_data(stage) or data is None:
        return stage.run(source, folder)
    calibration = load_calibration(data)
    if calibration is None:
        raise AssertionError("the key could not be made without")
    return cast("LearningStage", stage).run(source, folder, calibration)
