"""Versions of what an artifact was made with."""

from __future__ import annotations

from importlib import metadata


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
