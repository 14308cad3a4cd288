"""Tables and remarks on a terminal, and measurements in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.measurement import Measurement
    from bench.tables import Table


def keep(measurements: Sequence[Measurement], out: Path | None) -> None:
    """Write measurements to a file, if one is named."""
    from bench.measurement import save_measurements

    if out is not None:
        save_measurements(measurements, out)


def print_tables(tables: Sequence[Table], measurements: Sequence[Measurement]) -> None:
    """Print tables on standard output, and on standard error why measurements are void."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    from bench.tables import unprinted_texts

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)  # a file or a pipe: no window to fit
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
            shown.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
        for row in table.rows:
            # An interval goes under its percentile: side by side they do not fit in 80 columns.
            shown.add_row(row[0], *(text.replace(" (", "\n(") for text in row[1:]))
        console.print(shown)
    for each in measurements:
        for reason in each.void:
            say_line(f"void: {each.name}: {reason}")
        for reason in unprinted_texts(each):
            say_line(f"{each.name}: {reason}")


def say_line(line: str) -> None:
    """Print a line on standard error."""
    click.echo(line, err=True)
