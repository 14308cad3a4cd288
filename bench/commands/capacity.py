"""``bench capacity`` and ``bench limits``: how much a target, and the generator itself, can do."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from bench.command_options import TARGET_HELP, given_command, load_options, open_all
from bench.printing import keep, print_tables
from bench.progress import progress
from rankers.command_line import json_option, print_json


@click.command(epilog=TARGET_HELP)
@click.argument("target")
@click.option("--slo", required=True, help="The objective, such as p99=10ms.")
@click.option("--budget", type=float, default=120.0, show_default=True,
              help="Seconds that it may take.")  # fmt: skip
@load_options
def capacity(
    target: str, slo: str, budget: float, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Find the highest Poisson rate at which a TARGET holds its --slo."""
    from bench.capacity import find_capacity
    from bench.results_file import results_json
    from bench.slo import parse_slo
    from bench.tables import capacity_table

    objective = parse_slo(slo)
    with ExitStack() as opened:
        (subject,), workload, load = open_all([target], opened, **options)
        found = find_capacity(
            subject, workload, objective, budget_s=budget, workers=load.workers,
            warmup=load.warmup, seed=load.seed, command=given_command(),
            say=opened.enter_context(progress(budget_s=budget)),
        )  # fmt: skip
    keep(found, out)
    if as_json:
        print_json(results_json(found))
    else:
        print_tables([capacity_table(found)], [])
        click.echo(found.text)
    if found.rate_per_s is None:
        sys.exit(1)


@click.command()
@click.option("--seconds", type=float, default=3.0, show_default=True, help="For each part.")
@click.option("--out", type=click.Path(path_type=Path), help="Write them to this JSON file.")
@json_option
def limits(seconds: float, out: Path | None, as_json: bool) -> None:
    """Measure what this generator can do on this machine: its highest rates and its own lag."""
    from bench.limits import find_limits, limits_text
    from rankers.files import write_atomically

    found = find_limits(seconds=seconds, command=given_command())
    if out is not None:
        write_atomically(out, json.dumps(found.to_json(), indent=1) + "\n")
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(limits_text(found))
