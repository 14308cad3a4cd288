"""What keeps a deployed model from being served on this machine, said before a server starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from optimize.artifact import MANIFEST
from optimize.gpu_graphs import ONNX_BUCKETS
from optimize.triton.config import read_config
from optimize.triton.config_files import chosen_config, served_version

if TYPE_CHECKING:
    from pathlib import Path


def missing_here(model: Path, config_name: str | None, newest: int) -> str:
    """Say in a line what a model's instances need and this machine lacks; empty if nothing.

    Args:
        model: Its folder in a repository.
        config_name: The configuration that a server is told to use.
        newest: The model's highest version.
    """
    path = chosen_config(model, config_name)
    config = read_config(path.read_text(), path)
    if not any(each.kind == each.KIND_GPU for each in config.instance_group):
        return ""
    from optimize.devices import no_cuda

    why = no_cuda()
    if why is not None:
        return (
            f"its instances are for a GPU ({path.name}): {why}: serve it on a machine with one, or "
            "deploy it without --accelerator"
        )
    return _missing_provider(model / str(served_version(path, newest)))


def _missing_provider(version: Path) -> str:
    """Say that the server's ONNX Runtime, which is that of this environment, lacks a provider."""
    try:
        buckets = json.loads((version / MANIFEST).read_bytes())["settings"][ONNX_BUCKETS]
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # It needs none, or is damaged: the server says that.
    from optimize.runtimes.onnx_providers import missing_provider

    why = missing_provider(buckets["provider"])
    return "" if why is None else f"its graph runs on a GPU by ONNX Runtime: {why}"
