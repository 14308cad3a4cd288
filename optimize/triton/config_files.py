"""Which configurations a model has: ``config.pbtxt``, and others by name for the same clients.

::

    NAME/config.pbtxt          what a server reads that was told nothing
    NAME/configs/gpu.pbtxt     what it reads with --model-config-name=gpu

Triton loads the highest version unless a configuration says which. Where there are several, each
says which: a version made for a GPU must not be served by the configuration of a CPU.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from optimize.triton.config import CONFIG, config_text, read_config
from rankers.errors import UserError
from rankers.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

CONFIGS = "configs"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def config_path(model: Path, name: str | None) -> Path:
    """Return where a model's configuration is; None is the default one.

    Raises:
        UserError: It is no name for one.
    """
    if name is None:
        return model / CONFIG
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for a configuration: use letters, digits, '_', '-' and '.', "
            "beginning with a letter or digit, 64 at most"
        )
    return model / CONFIGS / f"{name}.pbtxt"


def named_configs(model: Path) -> list[str]:
    """Return the names of a model's configurations beside the default one."""
    return sorted(each.stem for each in (model / CONFIGS).glob("*.pbtxt"))


def other_configs(model: Path, own: Path) -> list[Path]:
    """Return the configurations that a model has beside one of them."""
    found = [model / CONFIG, *(config_path(model, each) for each in named_configs(model))]
    return [each for each in found if each != own and each.is_file()]


def served_version(path: Path, newest: int) -> int:
    """Return which version a configuration serves.

    Args:
        path: The configuration.
        newest: The model's highest version, which it serves unless it says another.
    """
    stated = read_config(path.read_text(), path).version_policy.specific.versions
    return int(stated[-1]) if stated else newest


def state_version(config: Any, version: int) -> None:
    """Let a ``ModelConfig`` serve one version, in place."""
    del config.version_policy.specific.versions[:]
    config.version_policy.specific.versions.append(version)


def hold_versions(paths: list[Path], newest: int) -> None:
    """Let each of these configurations state what it serves, before a newer version comes."""
    for path in paths:
        config = read_config(path.read_text(), path)
        if not config.version_policy.specific.versions:
            state_version(config, newest)
            write_atomically(path, config_text(config))


def chosen_config(model: Path, name: str | None) -> Path:
    """Return the configuration that a server told a name reads: by default the default one."""
    path = config_path(model, name)
    return path if path.is_file() else model / CONFIG


def check_config_name(repository: Path, models: list[str], name: str | None) -> None:
    """Check that some model has a configuration of this name.

    Raises:
        UserError: None has: the server would quietly serve the default ones.
    """
    if name is None or any(config_path(repository / each, name).is_file() for each in models):
        return
    there = sorted({known for each in models for known in named_configs(repository / each)})
    raise UserError(
        f"{repository}: no model has a configuration {name!r}; "
        + (f"there are: {', '.join(there)}" if there else "`deploy --config-name` makes one")
    )
