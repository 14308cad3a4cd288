"""What every rankserve command line shares: one-line errors, exit codes, ``--json``.

Exit codes: 0 done; 1 a gate or check failed; 2 wrong use.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import click

from rankers.errors import UserError, nearest


class CommandLine(click.Group):
    """A group of commands that says mistakes in one line and ends with exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print a `UserError` as one line."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            fail(str(error))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            fail(f"unknown command {args[0]!r}; {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def fail(message: str) -> NoReturn:
    """Print one line to standard error and leave with exit code 2."""
    line = " ".join(message.split())
    click.echo(f"error: {line}", err=True)
    sys.exit(2)


def print_json(data: Any) -> None:
    """Print the one JSON object that ``--json`` promises on standard output."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, all else on stderr."
)
