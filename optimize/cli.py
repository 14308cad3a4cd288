"""``python -m optimize``: from a trained ranker to a served one.

Heavy imports are inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import click

from optimize.children import die_with_parent
from optimize.commands.buckets import buckets
from optimize.commands.check import check
from optimize.commands.compare import compare
from optimize.commands.deploy import deploy
from optimize.commands.inspect import inspect
from optimize.commands.listings import recipes, stages
from optimize.commands.measure import measure
from optimize.commands.preflight import preflight
from optimize.commands.report import report
from optimize.commands.run import run
from optimize.commands.sensitivity import sensitivity
from optimize.commands.serve import serve
from optimize.commands.steps import capture, gain, gate, stage
from rankers.command_line import CommandLine


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rankserve", prog_name="rankserve")
def main() -> None:
    """Optimize a trained ranker, prove that it still ranks, and deploy it to Triton."""
    die_with_parent()


for _command in (
    buckets, capture, check, compare, deploy, gain, gate, inspect, measure, preflight, recipes,
    report, run, sensitivity, serve, stage, stages,
):  # fmt: skip
    main.add_command(_command)
