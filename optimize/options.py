"""Command-line options made from a dataclass's fields."""

from __future__ import annotations

from typing import Any


def serving_options(function: Any) -> Any:
    """Placeholder until serving lands."""
    return function
