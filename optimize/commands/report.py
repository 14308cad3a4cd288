"""``optimize report``: what computing the user's part once changed, or why it did not."""

from __future__ import annotations

from pathlib import Path

import click

from rankers.command_line import json_option, print_json


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write a page of HTML, with pictures.")
@click.option("--measured", type=click.Path(path_type=Path),
              help="Latencies of this ranker, as `bench crossover --out` writes them.")  # fmt: skip
@json_option
def report(*, artifact: Path, out: Path | None, measured: Path | None, as_json: bool) -> None:
    """Tell what the stage user_once changed in ARTIFACT (its folder, or a run's), or why not.

    Operators and multiply-adds of each side, bytes read and sent, before and after; with --out
    also the graph, coloured by side, with the frontier where user meets item.
    """
    from optimize.split_report.measured import measured_json, read_measured
    from optimize.split_report.reading import read_split_report
    from optimize.split_report.tables import work_json

    found = read_split_report(artifact)
    times = None if measured is None else read_measured(measured, found)
    if out is not None:
        from optimize.split_report.page import split_page
        from rankers.files import write_atomically

        write_atomically(out, split_page(found, times))
    if as_json:
        data = work_json(found) | {"measured": None if times is None else measured_json(times)}
        print_json(data | {"page": None if out is None else str(out)})
        return
    from optimize.split_report.terminal import print_split_report

    print_split_report(found, times)
    if out is not None:
        click.echo(f"{out} written")
