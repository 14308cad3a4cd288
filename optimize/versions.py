"""Versions of what an artifact was made with."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

# The extra of rankserve that installs a library that it can do without.
_EXTRAS = {"openvino": "openvino"}


def library_versions(*names: str) -> dict[str, str]:
    """Return the installed version of each distribution, and of rankserve itself.

    Local build tags (``+cpu``) stay: they tell builds apart.
    """
    found = {}
    for name in ("rankserve", *names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def missing_library(names: Iterable[str]) -> str | None:
    """Return a line about the first distribution that is not installed; None if all are."""
    for name in names:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            what = f"'rankserve[{_EXTRAS[name]}]'" if name in _EXTRAS else name
            return f"{name} is not installed: pip install {what}"
    return None


def require_libraries(*names: str) -> None:
    """Raise unless every distribution is installed.

    Raises:
        UserError: One is not; the message says how to install it.
    """
    missing = missing_library(names)
    if missing:
        raise UserError(missing)
