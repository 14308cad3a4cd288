"""What ``user_once`` did to a ranker, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bench.printing import print_tables, say_line
from optimize.split_report.measured import COMMAND, measured_table, remarks
from optimize.split_report.tables import rewrite_texts, sentences, tables

if TYPE_CHECKING:
    from bench.results_file import Found
    from optimize.split_report.reading import SplitReport


def print_split_report(report: SplitReport, found: Found | None) -> None:
    """Print sentences and tables on standard output.

    Args:
        report: What the stage left.
        found: What was measured; None if nothing was: then how to measure goes to standard error.
    """
    click.echo(f"{report.ranker}: one user, N candidates")
    for text in (*sentences(report), *rewrite_texts(report)):
        click.echo(text)
    for table in tables(report):
        click.echo()
        print_tables([table], ())
    if found is None:
        say_line(f"not measured; measure with: {COMMAND}")
        return
    click.echo()
    print_tables([measured_table(found)], found.measurements)
    for text in remarks(found, report):
        click.echo(text)
