"""``python -m bench``: measure targets, compare them, write benchmarks.md."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankers.command_line import CommandLine, json_option, print_json
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.attribution import Split
    from bench.measure import Load
    from bench.measurement import Measurement
    from bench.tables import Table
    from bench.targets import Target
    from bench.workload import Workload

# Of one traced run: the server writes some 1.2 kB for each.
_MOST_TRACED = 5000

_TARGET_HELP = """A TARGET is an artifact's folder (or a run's); a served model, as
grpc://host:port/model by our client, or by tritonclient://, shm://, http:// or prebuilt://;
callable:file.py:function, which scores requests; or a ranker (file.py:function, a checkpoint
folder, a name in the zoo), which is measured in eager torch."""


@click.group(cls=CommandLine)
def main() -> None:
    """Measure the latency of rankers, soundly."""


def _load_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that ``run`` and ``compare`` share."""
    options = [
        click.option("--requests", type=click.Path(path_type=Path),
                     help="Requests to send (safetensors); by default a ranker's own."),
        click.option("--workload", help="Requests to make up: a name of `bench workloads`, or a "
                     ".toml file."),
        click.option("--candidates", type=int,
                     help="Candidates in each request; by default its own."),
        click.option("--concurrency", type=int, default=1, show_default=True,
                     help="Closed loop: requests under way at once."),
        click.option("--rate", type=float, help="Open loop: arrivals per second."),
        click.option("--arrivals", help="Open loop: poisson, constant, bursts:factor=4,share=0.1, "
                     "ramp:to=RATE or replay:FILE.  [default: poisson]"),
        click.option("--speed", type=float,
                     help="Of a replay, in place of a rate.  [default: 1]"),
        click.option("--count", type=int, help="Requests to send to each target.  [default: 2000]"),
        click.option("--duration", type=float, help="Seconds for each target, instead of a count."),
        click.option("--warmup", type=int, default=100, show_default=True,
                     help="Requests before the clock starts."),
        click.option("--workers", type=int,
                     help="Open loop: requests that can be under way at once."),
        click.option("--threads", type=int,
                     help="Of one call in process.  [default: one for each physical core]"),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu",
                     show_default=True, help="Where targets run."),
        click.option("--seed", type=int, default=0, show_default=True,
                     help="Of the requests' choice and the arrivals."),
        click.option("--out", type=click.Path(path_type=Path), help="Write the measurements here."),
        json_option,
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@main.command(epilog=_TARGET_HELP)
@click.argument("target")
@click.option(
    "--trace", is_flag=True, help="Of a grpc:// target: split the time of single requests, after."
)
@click.option("--processes", type=int, default=1, show_default=True,
              help="That generate the load together.")  # fmt: skip
@_load_options
def run(
    target: str, trace: bool, processes: int, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure one TARGET in a closed loop, or in an open loop at a --rate."""
    from bench.measure import measure
    from bench.tables import latency_table
    from bench.targets import open_target

    if trace and not target.startswith("grpc://"):
        raise UserError(f"--trace is of a grpc:// target; {target!r} is none")

    with ExitStack() as opened:
        (subject,), workload, load = _open([target], opened, **options)
        if processes == 1:
            measurement = measure(subject, workload, load, command=_command())
        else:
            from bench.processes import measure_in_processes

            anew = partial(
                open_target, target, device=options["device"], threads=options["threads"]
            )
            measurement = measure_in_processes(
                anew, workload, load, processes=processes, command=_command()
            )
        splits = _traced(target, workload, load) if trace else []
    _keep([measurement], out)
    if as_json:
        print_json(measurement.to_json() | ({"splits": list(map(asdict, splits))} if trace else {}))
        return
    tables = [latency_table([measurement])]
    if trace:
        from bench.attribution import attribution_table

        tables.append(attribution_table(splits))
    _print(tables, [measurement])


@main.command(epilog=_TARGET_HELP)
@click.argument("targets", nargs=-1, required=True)
@click.option("--rounds", type=int,
              help="Turns of each target.  [default: one for 50 requests, 10 to 100]")  # fmt: skip
@click.option("--baseline", metavar="NAME", help="Compare with this one.  [default: the first]")
@click.option("--fail-if-slower", is_flag=True, help="Exit 1 if a target is slower.")
@_load_options
def compare(
    *, targets: tuple[str, ...], rounds: int | None, baseline: str | None, fail_if_slower: bool,
    out: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Measure TARGETS in turn, in drawn order, and tell which are faster than the first."""
    from bench.measure import measure_interleaved
    from bench.tables import latency_table, ratio_table, undecided_texts

    with ExitStack() as opened:
        subjects, workload, load = _open(targets, opened, **options)
        found = measure_interleaved(
            subjects, workload, load, rounds=rounds, baseline=baseline, command=_command(), say=_say
        )
    _keep(found.measurements, out)
    if as_json:
        print_json(found.to_json())
    else:
        _print([latency_table(found.measurements), ratio_table(found.ratios)], found.measurements)
        for line in undecided_texts(found.ratios):
            _say(line)
    if fail_if_slower and found.slower:
        _say(f"slower: {', '.join(found.slower)}")
        sys.exit(1)


@main.command(epilog=_TARGET_HELP)
@click.argument("target")
@click.option("--slo", required=True, help="The objective, such as p99=10ms.")
@click.option("--budget", type=float, default=120.0, show_default=True,
              help="Seconds that it may take.")  # fmt: skip
@_load_options
def capacity(
    target: str, slo: str, budget: float, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Find the highest Poisson rate at which a TARGET holds its --slo."""
    from bench.capacity import find_capacity
    from bench.slo import parse_slo
    from bench.tables import capacity_table

    objective = parse_slo(slo)
    with ExitStack() as opened:
        (subject,), workload, load = _open([target], opened, **options)
        found = find_capacity(
            subject, workload, objective, budget_s=budget, workers=load.workers,
            warmup=load.warmup, seed=load.seed, command=_command(), say=_say,
        )  # fmt: skip
    _keep([each.measurement for each in found.points], out)
    if as_json:
        print_json(found.to_json())
    else:
        _print([capacity_table(found)], [])
    if found.rate_per_s is None:
        sys.exit(1)


@main.command()
@click.option("--seconds", type=float, default=3.0, show_default=True, help="For each part.")
@click.option("--out", type=click.Path(path_type=Path), help="Write them to this JSON file.")
@json_option
def limits(seconds: float, out: Path | None, as_json: bool) -> None:
    """Measure what this generator can do on this machine: its highest rates and its own lag."""
    from bench.limits import find_limits, limits_text

    found = find_limits(seconds=seconds)
    if out is not None:
        import json

        from rankers.files import write_atomically

        write_atomically(out, json.dumps(found.to_json(), indent=1) + "\n")
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(limits_text(found))


@main.command()
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


@main.command()
@click.option("--data", type=click.Path(path_type=Path),
              help="A Criteo file to train on, in place of the synthetic log.")  # fmt: skip
@click.option("--rows", type=click.IntRange(min=1), default=400_000, show_default=True,
              help="Of the synthetic log.")  # fmt: skip
@click.option("--requests", type=click.IntRange(min=1), default=2000, show_default=True,
              help="Sent through the client; their scores are compared.")  # fmt: skip
@click.option("--measured", type=click.IntRange(min=1), default=1000, show_default=True,
              help="Requests that each variant is measured with.")  # fmt: skip
@click.option("--build", type=click.Path(path_type=Path), default=Path("build/demo"),
              show_default=True, help="The folder of what is made.")  # fmt: skip
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"),
              show_default=True, help="The Triton model repository.")  # fmt: skip
@json_option
def demo(as_json: bool, **options: Any) -> None:
    """Do the main job: train, optimize, gate, deploy, serve, compare, measure."""
    from bench.demo import DemoOptions, run_demo
    from bench.demo_report import demo_table

    chosen = DemoOptions(**options)
    summary = run_demo(chosen)
    if as_json:
        print_json(summary)
        return
    _print([demo_table(summary)], [])
    for each in summary["variants"]:
        for reason in each["void"]:
            _say(f"void: {each['name']}: {reason}")
    click.echo(f"report: {chosen.build / 'report.html'}   numbers: {chosen.build / 'summary.json'}")


@main.command()
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"),
              show_default=True, help="The folder of results files.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks.md"),
              show_default=True, help="The page to write.")  # fmt: skip
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the page is not up to date.")
@json_option
def report(results: Path, out: Path, check: bool, as_json: bool) -> None:
    """Write benchmarks.md from the results files."""
    from bench.report import results_page
    from rankers.files import write_atomically

    page = results_page(results)
    current = out.is_file() and out.read_text() == page
    if not check and not current:
        write_atomically(out, page)
    if as_json:
        print_json({"page": str(out), "was_current": current, "written": not check and not current})
    elif check and not current:
        _say(f"{out} is not what {results} gives: run python -m bench report")
    else:
        click.echo(f"{out} {'is up to date' if current else 'written'}")
    if check and not current:
        sys.exit(1)


def _open(
    specs: Sequence[str], opened: ExitStack, *, threads: int | None, device: str, **options: Any
) -> tuple[list[Target], Workload, Load]:
    """Open the targets, draw the workload and read the load, mistakes first."""
    from bench.load_options import choose_workload, read_load
    from bench.targets import open_target

    load = read_load(**options)
    if options["workload"] is not None:
        from bench.workload_recipe import load_recipe

        load_recipe(options["workload"])  # its mistakes are said before targets are opened
    targets = []
    for spec in specs:
        targets.append(open_target(spec, device=device, threads=threads))
        opened.callback(targets[-1].close)
    return targets, choose_workload(targets, **options), load


def _traced(target: str, workload: Workload, load: Load) -> list[Split]:
    """Send the load again with tracing on, to at most as many requests as a file should hold."""
    from bench.attribution import trace_requests
    from bench.served import split_address

    _, url, model = split_address(target)
    shorter = load if load.count is None else replace(load, count=min(load.count, _MOST_TRACED))
    return trace_requests(url, model, workload, shorter)


def _keep(measurements: Sequence[Measurement], out: Path | None) -> None:
    from bench.measurement import save_measurements

    if out is not None:
        save_measurements(measurements, out)


def _print(tables: Sequence[Table], measurements: Sequence[Measurement]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    from bench.tables import unprinted_texts

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)  # a file or a pipe: no window to fit
    for table in tables:
        if not table.rows:
            continue
        shown = RichTable(
            title=table.title,
            title_justify="left",
            caption=table.note,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 1, 0, 0),
        )
        for place, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
        for row in table.rows:
            # An interval goes under its percentile: side by side they do not fit in 80 columns.
            shown.add_row(row[0], *(text.replace(" (", "\n(") for text in row[1:]))
        console.print(shown)
    for each in measurements:
        for reason in each.void:
            _say(f"void: {each.name}: {reason}")
        for reason in unprinted_texts(each):
            _say(f"{each.name}: {reason}")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _command() -> str:
    """Return the command line that was given."""
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])
