"""The model repository: a version of a model appears whole, or not at all.

::

    REPOSITORY/NAME/config.pbtxt
    REPOSITORY/NAME/configs/       other configurations by name (optimize.triton.config_files)
    REPOSITORY/NAME/VERSION/       what optimize.triton.version_folder writes
    .REPOSITORY.deploying/         beside it: the lock, and what is being written

Triton takes every folder of a repository for a model, hidden ones too, so nothing is ever staged
inside it: a version is written beside the repository and renamed to its place.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optimize.triton.config import (
    CONFIG,
    ServingOptions,
    config_text,
    serving_config,
)
from optimize.triton.config_files import (
    config_path,
    hold_versions,
    other_configs,
    served_version,
    state_version,
)
from optimize.triton.deploy_checks import check_artifact, check_compatible, check_name
from optimize.triton.version_folder import (
    artifact_key,
    deployed_keys,
    holds,
    write_version,
)
from rankers.errors import UserError
from rankers.files import new_folder, remove_leftovers, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optimize.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Deployed:
    """A version of a model in a repository."""

    name: str
    version: int
    folder: Path


def deploy(
    artifact: Artifact,
    repository: Path,
    name: str,
    *,
    options: ServingOptions | None = None,
    ungated: bool = False,
    config_name: str | None = None,
) -> Deployed:
    """Put an artifact into a model repository as the newest version of ``name``.

    The same artifact deployed again keeps its version; only the config may change. A kill at any
    moment leaves the old version, or the new one. Deploys into one repository wait for each other.

    Args:
        artifact: One that no gate stopped, of a format that the backend serves.
        repository: Triton's model repository; made if there is none.
        name: The model's name.
        options: How it is to be served.
        ungated: Deploy it although a gate stopped it.
        config_name: Of the configuration that serves it; None is the default one, which a model
            gets first. Each of several serves its own version, of the same features.

    Raises:
        UserError: A name or the artifact is not fit, or the features differ from those of the
            deployed version, which clients hold.
    """
    options = options or ServingOptions()
    check_name(name)
    check_artifact(artifact, options, ungated=ungated)
    if options.backend == "torch_aoti":
        return _deploy_aoti(artifact, repository.resolve(), name, options, config_name)
    repository = repository.resolve()
    repository.mkdir(parents=True, exist_ok=True)
    with _exclusive(repository) as aside:
        model = repository / name
        own = config_path(model, config_name)
        check_compatible(model, own, artifact, options.backend)
        if model.is_dir():
            remove_leftovers(model)
        numbers = versions(model)
        newest = numbers[-1] if numbers else 0
        others = other_configs(model, own)
        apart = config_name is not None or bool(others)
        asked = reversed(numbers) if apart else numbers[-1:]
        version = next(
            (each for each in asked if holds(model / str(each), artifact, options)), newest + 1
        )
        present = sorted({*numbers, version})
        served = {served_version(each, newest) for each in others}
        kept = sorted({*present[-options.keep_versions :], version, *served})

        def config(of: list[int]) -> str:
            held = deployed_keys(model, of) | {version: artifact_key(artifact)}
            message = serving_config(artifact, name, options, held)
            if apart:
                state_version(message, version)
            return config_text(message)

        if not model.is_dir():
            _place_first(artifact, model, config(kept), options, aside)
        elif version not in numbers:
            hold_versions(others, newest)
            with new_folder(model / str(version), beside=aside) as folder:
                write_version(artifact, folder, options)
                # The config comes before the rename. It names what every version holds, the new one
                # too, and the old version, which it serves until then, has the same features. Where
                # it says which version it serves, it comes when that is there.
                if not apart:
                    _replace(own, config(present))
        hold_versions(others, newest)
        _prune(model, kept, aside)
        own.parent.mkdir(exist_ok=True)
        _replace(own, config(kept))
    return Deployed(name, version, model / str(version))


def _deploy_aoti(
    artifact: Artifact,
    repository: Path,
    name: str,
    options: ServingOptions,
    config_name: str | None,
) -> Deployed:
    from optimize.triton.aoti import place_aoti

    if config_name is not None:
        raise UserError("a model behind torch_aoti is two, with one configuration each")
    with _exclusive(repository) as aside:
        return Deployed(name, 1, place_aoti(artifact, repository, name, options, aside))


def versions(model: Path) -> list[int]:
    """Return the version numbers in a model's folder, oldest first."""
    if not model.is_dir():
        return []
    return sorted(
        int(each.name)
        for each in model.iterdir()
        if each.name.isascii() and each.name.isdecimal() and int(each.name) > 0 and each.is_dir()
    )


def deployed_models(repository: Path) -> list[str]:
    """Return the names in a repository that a server can load: a config and a version.

    Raises:
        UserError: There is no such repository.
    """
    if not repository.is_dir():
        raise UserError(f"{repository}: no model repository here; `deploy` makes one")
    return sorted(
        each.name for each in repository.iterdir() if (each / CONFIG).is_file() and versions(each)
    )


def _place_first(
    artifact: Artifact, model: Path, config: str, options: ServingOptions, aside: Path
) -> None:
    with new_folder(model, beside=aside) as folder:
        version = folder / "1"
        version.mkdir()
        write_version(artifact, version, options)
        (folder / CONFIG).write_text(config)


def _replace(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        write_atomically(path, text)


def _prune(model: Path, kept: list[int], aside: Path) -> None:
    for number in versions(model):
        if number not in kept:
            # Out of the repository in one step, so that no server meets half a version.
            gone = aside / f".aside-{uuid.uuid4().hex}"
            (model / str(number)).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def _exclusive(repository: Path) -> Iterator[Path]:
    """Hold the repository's lock; give the folder beside it where things are written."""
    aside = repository.parent / f".{repository.name}.deploying"
    try:
        aside.mkdir(exist_ok=True)
        lock = (aside / "lock").open("w")
    except OSError as error:
        raise UserError(f"{aside}: cannot be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_leftovers(aside)
        yield aside
