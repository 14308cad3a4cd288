"""``bench run``: one target under one load."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from bench.command_options import TARGET_HELP, given_command, load_options, open_all
from bench.printing import keep, print_tables
from bench.progress import progress
from rankers.command_line import print_json
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.attribution import Split
    from bench.measure import Load
    from bench.workload import Workload

# Of one traced run: the server writes some 1.2 kB for each.
_MOST_TRACED = 5000


@click.command(epilog=TARGET_HELP)
@click.argument("target")
@click.option(
    "--trace", is_flag=True, help="Of a grpc:// target: split the time of single requests, after."
)
@click.option("--processes", type=int, default=1, show_default=True,
              help="That generate the load together.")  # fmt: skip
@load_options
def run(
    target: str, trace: bool, processes: int, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure one TARGET in a closed loop, or in an open loop at a --rate."""
    from bench.attribution import attribution_table
    from bench.measure import measure
    from bench.results_file import Runs
    from bench.tables import cost_texts, latency_table
    from bench.targets import open_target

    if trace and not target.startswith("grpc://"):
        raise UserError(f"--trace is of a grpc:// target; {target!r} is none")

    with ExitStack() as opened:
        (subject,), workload, load = open_all([target], opened, **options)
        say = opened.enter_context(progress(steps=1))
        say(f"{subject.name}: {_amount(load)}")
        if processes == 1:
            measurement = measure(subject, workload, load, command=given_command())
        else:
            from bench.processes import measure_in_processes

            anew = partial(
                open_target, target, device=options["device"], threads=options["threads"]
            )
            measurement = measure_in_processes(
                anew, workload, load, processes=processes, command=given_command()
            )
        if trace:
            say(f"{subject.name}: again, traced")
        splits = _traced(target, workload, load) if trace else []
    keep(Runs((measurement,), tuple(splits)), out)
    if as_json:
        print_json(measurement.to_json() | ({"splits": list(map(asdict, splits))} if trace else {}))
        return
    tables = [latency_table([measurement])]
    if trace:
        tables.append(attribution_table(splits))
    print_tables(tables, [measurement])
    for line in cost_texts(measurement):
        click.echo(line)


def _amount(load: Load) -> str:
    """Say what is sent and for how long, such as ``2,000 requests, 100/s, some 20 s``."""
    count = "" if load.count is None else f"{load.count:,} requests, "
    if load.rate_per_s is None:
        return (
            count
            + (f"{load.duration_s:g} s, " if load.duration_s else "")
            + (f"{load.concurrency} at once")
        )
    seconds = load.duration_s or (load.count or 0) / load.rate_per_s
    return f"{count}{load.rate_per_s:g}/s, some {seconds:.0f} s"


def _traced(target: str, workload: Workload, load: Load) -> list[Split]:
    """Send the load again with tracing on, to at most as many requests as a file should hold."""
    from bench.attribution import trace_requests
    from bench.served import split_address

    _, url, model = split_address(target)
    shorter = load if load.count is None else replace(load, count=min(load.count, _MOST_TRACED))
    return trace_requests(url, model, workload, shorter)
