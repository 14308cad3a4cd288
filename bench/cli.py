"""``python -m bench``: measure targets, compare them, write pages of what was found."""

from __future__ import annotations

import click

from bench.commands.capacity import capacity, limits
from bench.commands.compare import compare
from bench.commands.crossover import crossover
from bench.commands.demo import demo
from bench.commands.diff import diff
from bench.commands.report import report
from bench.commands.run import run
from bench.commands.sweep import sweep
from bench.commands.workloads import workloads
from rankers.command_line import CommandLine


@click.group(cls=CommandLine)
def main() -> None:
    """Measure the latency of rankers, soundly."""


COMMANDS = (run, compare, diff, capacity, crossover, sweep, limits, workloads, demo, report)
for command in COMMANDS:
    main.add_command(command)
