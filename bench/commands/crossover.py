"""``bench crossover``: which target wins at which number of candidates and rate."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from bench.command_options import (
    TARGET_HELP,
    Numbers,
    given_command,
    load_options,
    open_all,
    ranker_option,
)
from bench.printing import keep, print_tables
from bench.progress import progress
from rankers.command_line import print_json
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=TARGET_HELP)
@click.argument("targets", nargs=-1, required=True)
@click.option(
    "--at",
    "counts",
    type=Numbers(1),
    default="1,10,50,200,500",
    show_default=True,
    help="Numbers of candidates N to measure at.",
)
@click.option(
    "--rates",
    type=Numbers(0.001, whole=False, words=("closed",)),
    default="closed",
    show_default=True,
    help="Loads to measure under: closed, or arrivals per second.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Turns of each target in each cell.  [default: one for 50 requests, 10 to 100]",
)
@ranker_option
@load_options
def crossover(
    *, targets: tuple[str, ...], counts: tuple[int, ...], rates: tuple[float | None, ...],
    rounds: int | None, out: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Tell which of TARGETS wins at which number of candidates and rate."""
    from bench.crossover import crossover_table, find_crossover
    from bench.results_file import results_json
    from bench.workload import draw_workload

    if len(targets) < 2:
        raise UserError(f"{len(targets)} target was given; it takes two or more to compare")
    for name in ("workload", "candidates", "rate", "arrivals"):
        if options[name] is not None:
            raise UserError(f"--{name} does not go with crossover: it has --at and --rates")
    with ExitStack() as opened:
        subjects, workload, load = open_all(targets, opened, **options)
        found = find_crossover(
            subjects,
            lambda count: draw_workload(workload.requests, candidates=count, seed=load.seed),
            load,
            candidates=counts,
            rates_per_s=rates,
            rounds=rounds,
            command=given_command(),
            say=opened.enter_context(progress(steps=len(counts) * len(rates))),
        )
    keep(found, out)
    if as_json:
        print_json(results_json(found))
        return
    print_tables([crossover_table(found)], found.measurements)
    for text in found.texts:
        click.echo(text)
