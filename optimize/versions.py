"""Versions of what an artifact was made with."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

# The extra of rankserve that installs a library that it can do without.
_EXTRAS = {
    "nvidia-modelopt": "modelopt",
    "openvino": "openvino",
    "tensorrt": "gpu",
    "torch-tensorrt": "gpu",
}
# Distributions of the same library under other names: one of them is enough.
_ALSO = {
    "onnxruntime": ("onnxruntime-gpu",),
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12"),
}


def library_versions(*names: str) -> dict[str, str]:
    """Return the installed version of each distribution, and of rankserve itself.

    Local build tags (``+cpu``) stay: they tell builds apart.
    """
    return {
        name: _installed(name) or "not installed" for name in dict.fromkeys(("rankserve", *names))
    }


def missing_library(names: Iterable[str]) -> str | None:
    """Return a line about the first distribution that is not installed; None if all are."""
    for name in names:
        if _installed(name) is None:
            what = f"'rankserve[{_EXTRAS[name]}]'" if name in _EXTRAS else name
            return f"{name} is not installed: pip install {what}"
    return None


def _installed(name: str) -> str | None:
    """Return the version of a library, whichever distribution brought it."""
    for each in (name, *_ALSO.get(name, ())):
        try:
            return metadata.version(each)
        except metadata.PackageNotFoundError:
            continue
    return None


def require_libraries(*names: str) -> None:
    """Raise unless every distribution is installed.

    Raises:
        UserError: One is not; the message says how to install it.
    """
    missing = missing_library(names)
    if missing:
        raise UserError(missing)
