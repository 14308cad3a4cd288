"""``bench diff``: what changed between two results files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.printing import say_line
from rankers.command_line import json_option, print_json


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--any-machine", is_flag=True, help="Compare what different machines measured.")
@click.option("--fail-if-slower", is_flag=True, help="Exit 1 if a target became slower.")
@json_option
def diff(*, old: Path, new: Path, any_machine: bool, fail_if_slower: bool, as_json: bool) -> None:
    """Tell what changed from the results file OLD to NEW."""
    from bench.recorded import changes
    from bench.results_file import load_measurements

    files = [load_measurements(each) for each in (old, new)]
    found = changes(files[0], files[1], any_machine=any_machine)
    for path, measurements in zip((old, new), files, strict=True):
        for each in measurements:
            for reason in each.void:
                say_line(f"void: {each.name} in {path}: {reason}")
    if as_json:
        print_json({"changes": [each.to_json() for each in found]})
    else:
        for change in found:
            click.echo(change.text)
    if not found:
        say_line("too few requests for any percentile: measure longer")
    if fail_if_slower and any(each.verdict == "slower" for each in found):
        sys.exit(1)
