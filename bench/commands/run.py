"""``bench run``: one target under one load."""

from __future__ import annotations

import sys
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
    from collections.abc import Callable
    from pathlib import Path

    from bench.attribution import Split
    from bench.measure import Load
    from bench.measurement import Measurement
    from bench.repeated import Spread
    from bench.targets import Target
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
@click.option("--runs", type=click.IntRange(min=1), default=1, show_default=True,
              help="Of the whole load, one after the other; says how they spread.")  # fmt: skip
@click.option("--slo", help="An objective such as p99=10ms: exit 1 unless it is shown to hold.")
@load_options
def run(
    *, target: str, trace: bool, processes: int, runs: int, slo: str | None, out: Path | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Measure one TARGET in a closed loop, or in an open loop at a --rate."""
    from bench.results_file import Runs
    from bench.slo import parse_slo
    from bench.targets import open_target

    if trace and not target.startswith("grpc://"):
        raise UserError(f"--trace is of a grpc:// target; {target!r} is none")
    if runs > 1 and processes > 1:
        raise UserError("--runs is of one process: leave out --processes")
    objective = None if slo is None else parse_slo(slo)

    with ExitStack() as opened:
        (subject,), workload, load = open_all([target], opened, **options)
        load = replace(load, slo=objective)
        say = opened.enter_context(progress(steps=runs))
        if runs == 1:
            say(f"{subject.name}: {_amount(load)}")
        if processes > 1:
            anew = partial(
                open_target, target, device=options["device"], threads=options["threads"]
            )
            found = _in_processes(anew, workload, load, processes)
        else:
            found = _in_runs(subject, workload, load, runs, say)
        if trace:
            say(f"{subject.name}: again, traced")
        splits = _traced(target, workload, load) if trace else None
    measurement, spreads = found
    keep(Runs((measurement,), tuple(splits or ())), out)
    verdict = None if objective is None else objective.judge(measurement)
    if as_json:
        said = {"splits": splits, "verdict": verdict, "spreads": spreads}
        print_json(
            measurement.to_json() | {name: _data(each) for name, each in said.items() if each}
        )
    else:
        _print_run(measurement, splits)
        for spread in spreads:
            click.echo(spread.text)
        if objective is not None and verdict is not None:
            click.echo(verdict.text(objective.text))
    if verdict is not None and verdict.answer != "holds":
        sys.exit(1)


def _in_runs(
    subject: Target, workload: Workload, load: Load, runs: int, say: Callable[[str], None]
) -> tuple[Measurement, tuple[Spread, ...]]:
    from bench.measure import measure
    from bench.repeated import measure_repeatedly

    if runs == 1:
        return measure(subject, workload, load, command=given_command()), ()
    return measure_repeatedly(subject, workload, load, runs=runs, command=given_command(), say=say)


def _in_processes(
    anew: Callable[[], Target], workload: Workload, load: Load, processes: int
) -> tuple[Measurement, tuple[Spread, ...]]:
    from bench.processes import measure_in_processes

    found = measure_in_processes(anew, workload, load, processes=processes, command=given_command())
    return found, ()


def _data(said: Any) -> Any:
    """Return what is said beside the measurement as JSON-ready data."""
    return list(map(asdict, said)) if isinstance(said, list | tuple) else said.to_json()


def _print_run(measurement: Measurement, splits: list[Split] | None) -> None:
    from bench.tables import cost_texts, latency_table

    tables = [latency_table([measurement])]
    if splits is not None:
        from bench.attribution import attribution_table

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
