"""``bench sweep``: which serving settings are fastest."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bench.command_options import Numbers, given_command, load_options
from bench.printing import keep, print_tables, say_line
from bench.progress import progress
from rankers.command_line import print_json


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--instances",
    type=Numbers(2),
    default="2",
    show_default=True,
    help="Numbers of instances to try.",
)
@click.option(
    "--intra-threads",
    type=Numbers(1),
    default="1",
    show_default=True,
    help="Threads of each instance to try.",
)
@click.option(
    "--delay-us", type=Numbers(0), default="0,500", show_default=True, help="Batch delays to try."
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Turns of each setting.  [default: one for 50 requests, 10 to 100]",
)
@load_options
def sweep(
    *, artifact: Path, instances: tuple[int, ...], intra_threads: tuple[int, ...],
    delay_us: tuple[int, ...], rounds: int | None, out: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Serve ARTIFACT (its folder, or a run's) under several settings; tell which is fastest."""
    from bench.load_options import choose_workload, read_load
    from bench.results_file import results_json
    from bench.sweep import grid, run_sweep, serve_settings, sweep_table
    from bench.winners import rounds_that_tell

    settings = grid(instances, intra_threads, delay_us)
    load = read_load(**options)
    served = contextmanager(serve_settings)
    with (
        tempfile.TemporaryDirectory(prefix="rankserve-sweep-") as work,
        served(artifact, settings, Path(work), say_line) as targets,
    ):
        workload = choose_workload(targets, **options)
        turns = rounds_that_tell(load, len(targets), rounds) * len(targets)
        with progress(steps=turns) as say:
            found = run_sweep(
                targets, settings, workload, load, rounds=rounds, command=given_command(), say=say
            )
    keep(found, out)
    if as_json:
        print_json(results_json(found))
        return
    print_tables([sweep_table(found)], found.measurements)
    for text in found.texts:
        click.echo(text)
