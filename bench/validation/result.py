"""How a validation's result is handed over: as a file, as JSON on standard output, or both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.environment import environment
from rankers.command_line import print_json
from rankers.errors import UserError
from rankers.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def hand_over(result: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    """Write a result to a file if one is named, and print it if JSON was asked for."""
    if out is not None:
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    if as_json:
        print_json(result)


def earlier(out: Path | None, same: dict[str, Any]) -> dict[str, Any]:
    """Read what a run that was cut has done, to go on from it.

    Args:
        out: The file that it wrote, if any.
        same: What has to be the same in it, such as the command.

    Returns:
        Its result, or ``same`` alone if there is none.

    Raises:
        UserError: The file holds something else, or was written on another machine.
    """
    if out is None or not out.exists():
        return dict(same)
    try:
        found: dict[str, Any] = json.loads(out.read_text())
    except ValueError as error:
        raise UserError(f"{out}: not JSON: {error}") from error
    for name, value in (same | {"environment": environment().to_json()}).items():
        if found.get(name) != value:
            raise UserError(f"{out}: holds a result with another {name}; use another --out")
    return found
