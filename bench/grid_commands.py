"""``python -m bench crossover | sweep``: grids of measurements, and what wins in them."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from bench.command_options import TARGET_HELP, given_command, load_options, open_all
from bench.printing import print_tables, say_line
from rankers.command_line import print_json
from rankers.errors import UserError


class Numbers(click.ParamType[tuple[Any, ...]]):
    """Numbers with commas between them, each at least as large as asked."""

    name = "N,N,…"

    def __init__(self, least: float, *, whole: bool = True, words: tuple[str, ...] = ()) -> None:
        self.least, self.whole, self.words = least, whole, words

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        """Read them; a word stands for None."""
        found: list[Any] = []
        for text in str(value).split(","):
            if text in self.words:
                found.append(None)
                continue
            try:
                number = int(text) if self.whole else float(text)
            except ValueError:
                self.fail(f"{text!r} is not a number", param, ctx)
            if not number >= self.least:
                self.fail(f"{text} is below {self.least:g}", param, ctx)
            found.append(number)
        if len(set(found)) != len(found):
            self.fail(f"{value} names one of them twice", param, ctx)
        return tuple(found)


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
@load_options
def crossover(
    *, targets: tuple[str, ...], counts: tuple[int, ...], rates: tuple[float | None, ...],
    rounds: int | None, out: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Tell which of TARGETS wins at which number of candidates and rate."""
    from bench.crossover import crossover_table, find_crossover
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
            say=say_line,
        )
    _keep(out, "rankserve-crossover", found.to_json())
    if as_json:
        print_json(found.to_json())
        return
    every = [each for cell in found.cells for each in cell.measurements]
    print_tables([crossover_table(found)], every)
    for text in found.texts:
        click.echo(text)


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
    from bench.sweep import grid, run_sweep, serve_settings, sweep_table

    settings = grid(instances, intra_threads, delay_us)
    load = read_load(**options)
    served = contextmanager(serve_settings)
    with (
        tempfile.TemporaryDirectory(prefix="rankserve-sweep-") as work,
        served(artifact, settings, Path(work), say_line) as targets,
    ):
        workload = choose_workload(targets, **options)
        found = run_sweep(
            targets, settings, workload, load, rounds=rounds, command=given_command(), say=say_line
        )
    _keep(out, "rankserve-sweep", found.to_json())
    if as_json:
        print_json(found.to_json())
        return
    print_tables([sweep_table(found)], found.measurements)
    for text in found.texts:
        click.echo(text)


def _keep(out: Path | None, kind: str, data: dict[str, Any]) -> None:
    from rankers.files import write_atomically

    if out is not None:
        whole = {"kind": kind, "schema": 1, "command": given_command()} | data
        write_atomically(out, json.dumps(whole, indent=1) + "\n")
