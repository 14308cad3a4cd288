"""``python -m bench``: measure targets, compare them, write benchmarks.md."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from bench.command_options import TARGET_HELP, given_command, load_options, open_all
from bench.grid_commands import crossover, sweep
from bench.printing import keep, print_tables, say_line
from bench.run_command import run
from rankers.command_line import CommandLine, json_option, print_json


@click.group(cls=CommandLine)
def main() -> None:
    """Measure the latency of rankers, soundly."""


main.add_command(run)
main.add_command(crossover)
main.add_command(sweep)


@main.command(epilog=TARGET_HELP)
@click.argument("targets", nargs=-1, required=True)
@click.option("--rounds", type=int,
              help="Turns of each target.  [default: one for 50 requests, 10 to 100]")  # fmt: skip
@click.option("--baseline", metavar="NAME", help="Compare with this one.  [default: the first]")
@click.option("--fail-if-slower", is_flag=True, help="Exit 1 if a target is slower.")
@load_options
def compare(
    *, targets: tuple[str, ...], rounds: int | None, baseline: str | None, fail_if_slower: bool,
    out: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Measure TARGETS in turn, in drawn order, and tell which are faster than the first."""
    from bench.measure import measure_interleaved
    from bench.tables import latency_table, ratio_table, undecided_texts

    with ExitStack() as opened:
        subjects, workload, load = open_all(targets, opened, **options)
        found = measure_interleaved(
            subjects,
            workload,
            load,
            rounds=rounds,
            baseline=baseline,
            command=given_command(),
            say=say_line,
        )
    keep(found.measurements, out)
    if as_json:
        print_json(found.to_json())
    else:
        print_tables(
            [latency_table(found.measurements), ratio_table(found.ratios)], found.measurements
        )
        for line in undecided_texts(found.ratios):
            say_line(line)
    if fail_if_slower and found.slower:
        say_line(f"slower: {', '.join(found.slower)}")
        sys.exit(1)


@main.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--any-machine", is_flag=True, help="Compare what different machines measured.")
@click.option("--fail-if-slower", is_flag=True, help="Exit 1 if a target became slower.")
@json_option
def diff(*, old: Path, new: Path, any_machine: bool, fail_if_slower: bool, as_json: bool) -> None:
    """Tell what changed from the results file OLD to NEW."""
    from bench.measurement import load_measurements
    from bench.recorded import changes

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


@main.command(epilog=TARGET_HELP)
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
    from bench.slo import parse_slo
    from bench.tables import capacity_table

    objective = parse_slo(slo)
    with ExitStack() as opened:
        (subject,), workload, load = open_all([target], opened, **options)
        found = find_capacity(
            subject, workload, objective, budget_s=budget, workers=load.workers,
            warmup=load.warmup, seed=load.seed, command=given_command(), say=say_line,
        )  # fmt: skip
    keep([each.measurement for each in found.points], out)
    if as_json:
        print_json(found.to_json())
    else:
        print_tables([capacity_table(found)], [])
    if found.rate_per_s is None:
        sys.exit(1)


@main.command()
@click.option("--seconds", type=float, default=3.0, show_default=True, help="For each part.")
@click.option("--out", type=click.Path(path_type=Path), help="Write them to this JSON file.")
@json_option
def limits(seconds: float, out: Path | None, as_json: bool) -> None:
    """Measure what this generator can do on this machine: its highest rates and its own lag."""
    from bench.limits import find_limits, limits_text

    found = find_limits(seconds=seconds, command=given_command())
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
@click.option("--measured", type=click.IntRange(min=1), default=2000, show_default=True,
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
    print_tables([demo_table(summary)], [])
    for each in summary["variants"]:
        for reason in each["void"]:
            say_line(f"void: {each['name']}: {reason}")
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
        say_line(f"{out} is not what {results} gives: run python -m bench report")
    else:
        click.echo(f"{out} {'is up to date' if current else 'written'}")
    if check and not current:
        sys.exit(1)
