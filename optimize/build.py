"""Run one stage on one artifact, once: the result is kept under a key of all it depends on."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.artifact import Artifact, Step, fingerprint, open_artifact, seal
from optimize.stages import make_stage, stage_options
from optimize.versions import library_versions, require_libraries
from rankers.errors import UserError
from rankers.files import new_folder
from rankers.ranker import FILES

if TYPE_CHECKING:
    from optimize.stages import Stage


def stage_folder(name: str, stage: Stage, source: Artifact, store: Path) -> Path:
    """Return where in ``store`` the result of a stage is, or will be.

    The name ends in a fingerprint of the stage, its options and code, the libraries' versions and
    the content of the artifact that it reads.
    """
    own = Path(sys.modules[type(stage).__module__].__file__ or "")
    package = own.parents[1]
    files = [own, *(file for each in stage.code for file in sorted(package.glob(each)))]
    depends = {
        "stage": name,
        "options": stage_options(stage),
        "code": [hashlib.sha256(each.read_bytes()).hexdigest() for each in files],
        "versions": library_versions(*stage.needs),
        "source": source.key,
    }
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


def run_stage(name: str, options: dict[str, Any], source: Artifact, store: Path) -> Artifact:
    """Run a stage, or return what it made before.

    Args:
        name: The stage's name.
        options: Its options; the rest have their defaults.
        source: The artifact it reads.
        store: The folder that keeps results.

    Raises:
        UserError: The stage cannot read this format or cannot convert the model, or a library that
            it needs is not installed.
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
    folder = stage_folder(name, stage, source, store)
    if not folder.exists():
        started = time.perf_counter()
        with new_folder(folder) as aside:
            manifest = stage.run(source, aside)
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
