"""``bench workloads``: what requests can be made up for."""

from __future__ import annotations

import click

from rankers.command_line import json_option, print_json


@click.command()
@json_option
def workloads(as_json: bool) -> None:
    """List the workloads that requests can be made up for."""
    from bench.workload_recipe import built_in_files, load_recipe

    found = {name: load_recipe(name).description for name in built_in_files()}
    if as_json:
        print_json(found)
    else:
        for name, description in found.items():
            click.echo(f"{name:16} {description}")
