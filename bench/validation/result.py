"""How a validation's result is handed over: as a file, as JSON on standard output, or both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rankers.command_line import print_json
from rankers.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def hand_over(result: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    """Write a result to a file if one is named, and print it if JSON was asked for."""
    if out is not None:
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    if as_json:
        print_json(result)
