"""Tables and remarks on a terminal, and what was found in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from bench.measurement import Measurement
    from bench.results_file import Found
    from bench.tables import Table

# Of a file or a pipe, which has no window to fit.
WIDTH = 100
_LONGEST_WHOLE = 24


def keep(found: Found, out: Path | None) -> None:
    """Write what was found to a file, if one is named."""
    from bench.results_file import save_results

    if out is not None:
        save_results(found, out)


def print_tables(tables: Sequence[Table], measurements: Sequence[Measurement]) -> None:
    """Print tables on standard output, and on standard error why measurements are void."""
    from rich.console import Console

    console = Console()
    draw_tables(tables, console if console.is_terminal else Console(width=WIDTH))
    for line in remarks(measurements):
        say_line(line)


def draw_tables(tables: Sequence[Table], console: Console) -> None:
    """Print tables on a console."""
    from rich import box
    from rich.table import Table as RichTable

    for table in tables:
        if not table.rows:
            continue
        shown = RichTable(
            title=table.title,
            title_justify="left",
            caption=table.note,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 1, 0, 0),
        )
        for place, column in enumerate(table.columns):
            # Figures are not broken; names and sentences are, or they leave no room for the others.
            longest = max(len(line) for row in table.rows for line in _lines(row[place]))
            whole = place > 0 and longest <= _LONGEST_WHOLE
            shown.add_column(
                column,
                justify="right" if place else "left",
                no_wrap=whole,
                min_width=min(longest, _LONGEST_WHOLE) if not place else None,
            )
        for row in table.rows:
            shown.add_row(row[0], *("\n".join(_lines(text)) for text in row[1:]))
        console.print(shown)


def _lines(text: str) -> list[str]:
    """Cut a cell: an interval goes under its percentile, or they do not fit in 80 columns."""
    return text.replace(" (", "\n(").split("\n")


def remarks(measurements: Sequence[Measurement]) -> list[str]:
    """Return why measurements are void, and why a percentile is not printed."""
    from bench.tables import names_apart, unprinted_texts

    lines = []
    for name, each in zip(names_apart(measurements), measurements, strict=True):
        lines += [f"void: {name}: {reason}" for reason in each.void]
        lines += [f"{name}: {reason}" for reason in unprinted_texts(each)]
    return lines


def say_line(line: str) -> None:
    """Print a line on standard error."""
    click.echo(line, err=True)
