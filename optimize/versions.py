"""Versions of what an artifact was made with."""

from __future__ import annotations

from contextlib import suppress
from importlib import metadata
from pathlib import Path
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


def installed_distribution(name: str) -> tuple[str, str] | None:
    """Return the distribution that brought a library, and its version; None if none did.

    ``onnxruntime`` and ``onnxruntime-gpu`` can be installed over each other: what is imported then
    is of the one that was installed last.
    """
    found = []
    for each in (name, *_ALSO.get(name, ())):
        with suppress(metadata.PackageNotFoundError):
            found.append(metadata.distribution(each))
    if len(found) > 1:
        found = [each for each in found if _on_top(each)] or found
    return (found[0].name, found[0].version) if found else None


def _on_top(distribution: metadata.Distribution) -> bool:
    """Whether the package of ONNX Runtime says that it is of this distribution."""
    stated = Path(str(distribution.locate_file("onnxruntime/capi/build_and_package_info.py")))
    return stated.is_file() and f"'{distribution.name}'" in stated.read_text()


def _installed(name: str) -> str | None:
    found = installed_distribution(name)
    return None if found is None else found[1]


def require_libraries(*names: str) -> None:
    """Raise unless every distribution is installed.

    Raises:
        UserError: One is not; the message says how to install it.
    """
    missing = missing_library(names)
    if missing:
        raise UserError(missing)
