"""``bench compare``: which of several targets is faster."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from bench.command_options import TARGET_HELP, given_command, load_options, open_all, ranker_option
from bench.printing import keep, print_tables, say_line
from bench.progress import progress
from rankers.command_line import print_json

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=TARGET_HELP)
@click.argument("targets", nargs=-1, required=True)
@click.option("--rounds", type=int,
              help="Turns of each target.  [default: one for 50 requests, 10 to 100]")  # fmt: skip
@click.option("--baseline", metavar="NAME", help="Compare with this one.  [default: the first]")
@click.option("--fail-if-slower", is_flag=True, help="Exit 1 if a target is slower.")
@ranker_option
@load_options
def compare(
    *, targets: tuple[str, ...], rounds: int | None, baseline: str | None, fail_if_slower: bool,
    out: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Measure TARGETS in turn, in drawn order, and tell which are faster than the first."""
    from bench.measure import default_rounds, measure_interleaved
    from bench.results_file import results_json
    from bench.tables import latency_table, ratio_table, undecided_texts

    with ExitStack() as opened:
        subjects, workload, load = open_all(targets, opened, **options)
        turns = (default_rounds(load) if rounds is None else rounds) * len(subjects)
        found = measure_interleaved(
            subjects,
            workload,
            load,
            rounds=rounds,
            baseline=baseline,
            command=given_command(),
            say=opened.enter_context(progress(steps=turns)),
        )
    keep(found, out)
    if as_json:
        print_json(results_json(found))
    else:
        print_tables(
            [latency_table(found.measurements), ratio_table(found.ratios)], found.measurements
        )
        for line in undecided_texts(found.ratios):
            say_line(line)
    if fail_if_slower and found.slower:
        say_line(f"slower: {', '.join(found.slower)}")
        sys.exit(1)
