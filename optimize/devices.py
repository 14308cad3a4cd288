"""Which devices a run can use, and why one cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimize.gpu_graphs import ONNX_BUCKETS
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optimize.artifact import Manifest

DEVICES = ("cpu", "cuda")
# The formats that have a runtime on a GPU, and the settings that give one to others; all else runs
# on the CPU wherever the run is.
_ON_CUDA = ("torch", "tensorrt", "torch_tensorrt")
_SETTINGS_ON_CUDA = (ONNX_BUCKETS,)


def no_cuda() -> str | None:
    """Say in a line why there is no CUDA device; None if there is one."""
    import torch

    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return f"no CUDA device: torch {torch.__version__} is built without CUDA"
    return (
        f"no CUDA device: torch {torch.__version__} for CUDA {torch.version.cuda} sees none; "
        "nvidia-smi says whether the driver does"
    )


def unmet_device(stages: Iterable[Any], device: str) -> str | None:
    """Say why a run on a device cannot have stages that are for others; None if it can.

    Args:
        stages: Each may say ``devices``: what its result is for; and have ``unmet()``, a line about
            what of a library is missing on this machine.
        device: The run's.
    """
    stages = [*stages]
    wanting = [each for each in stages if device not in getattr(each, "devices", DEVICES)]
    if wanting:
        return no_cuda() or f"the run is on {device}: give it --device {wanting[0].devices[0]}"
    unmet = (each.unmet() for each in stages if hasattr(each, "unmet"))
    return next((each for each in unmet if each), None)


def require_device(device: str) -> None:
    """Raise unless a device is there.

    Raises:
        UserError: It is unknown, or there is none.
    """
    if device not in DEVICES:
        raise UserError(f"device {device!r} is unknown; it is {' or '.join(DEVICES)}")
    missing = no_cuda() if device == "cuda" else None
    if missing:
        raise UserError(missing)


def runtime_device(manifest: Manifest, device: str) -> str:
    """Return where an artifact runs in a run on ``device``: there, or on the CPU if it must."""
    compiled = manifest.settings.get("device") == "cuda"  # ahead of time, for it alone
    in_buckets = any(each in manifest.settings for each in _SETTINGS_ON_CUDA)
    return device if manifest.format in _ON_CUDA or compiled or in_buckets else "cpu"
