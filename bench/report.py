"""benchmarks.md: a page made from results files and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.measurement import load_measurements
from bench.tables import environment_text, latency_table, load_text
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.measurement import Measurement
    from bench.tables import Table

_HEAD = """\
# Benchmarks

Made by `python -m bench report` from the files in `bench/results/`, and from nothing else: change
those, not this page. `python -m bench report --check` fails when the two disagree.

Latencies are response times in milliseconds, counted from the moment a request was due, with 95 %
intervals in parentheses: order statistics, of as many independent requests as the run is worth
(block bootstrap, and the spread between rounds). A percentile that rests on too few is not printed
(-). A void row is kept to show that it was tried: do not quote it. Compare rows of the same
machine and load only.
"""


def results_page(results: Path) -> str:
    """Return benchmarks.md for the ``*.json`` files in a folder.

    Raises:
        UserError: The folder is missing, or a file cannot be read.
    """
    if not results.is_dir():
        raise UserError(f"{results}: no such folder of results; name it with --results")
    measurements = [
        each for path in sorted(results.glob("*.json")) for each in load_measurements(path)
    ]
    parts = [_HEAD]
    for title, on_gpu in (("CPU", False), ("GPU", True)):
        chosen = [each for each in measurements if each.on_gpu == on_gpu]
        parts.append(f"## {title}\n")
        parts.append(_section(chosen) if chosen else "Not run: there are no results.\n")
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """Return a table as Markdown, without its title and note."""
    alignment = ["---", *["---:"] * (len(table.columns) - 1)]
    rows = [table.columns, alignment, *table.rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in row)} |" for row in rows)


def _section(measurements: Sequence[Measurement]) -> str:
    """Return a table for each environment, the commands and the reasons of void rows."""
    parts = []
    lines = {environment_text(each.environment): each.environment.machine for each in measurements}
    for line, machine in lines.items():
        here = [each for each in measurements if environment_text(each.environment) == line]
        parts.append(f"### Machine {machine}\n\n{line}.\n")
        for load in dict.fromkeys(load_text(each) for each in here):
            table = latency_table([each for each in here if load_text(each) == load], "Load")
            parts.append(f"{table.title}.\n\n{markdown(table)}\n")
        voids = [f"- {each.name}: {'; '.join(each.void)}." for each in here if each.void]
        if voids:
            parts.append("\n".join(["Void:\n", *voids, ""]))
        commands = dict.fromkeys(each.command for each in here if each.command)
        if commands:
            parts.append("\n".join(["To reproduce:\n", "```", *commands, "```", ""]))
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
