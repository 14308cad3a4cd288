"""``bench demo``: the main job, shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.printing import print_tables, say_line
from rankers.command_line import json_option, print_json


@click.command()
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
@click.option("--rivals", default="openvino,inductor", show_default=True,
              help="Other runtimes to measure as well; '' for none.")  # fmt: skip
@json_option
def demo(as_json: bool, rivals: str, **options: Any) -> None:
    """Do the main job: train, optimize, gate, deploy, serve, compare, measure."""
    from bench.demo import DemoOptions, run_demo
    from bench.demo_report import demo_table
    from bench.demo_rivals import read_rivals

    chosen = DemoOptions(**options, rivals=read_rivals(rivals))
    found = run_demo(chosen)
    if as_json:
        print_json(found.summary())
        return
    print_tables([demo_table(found)], [])
    for each in found.variants:
        for reason in each.measurement.void:
            say_line(f"void: {each.name}: {reason}")
    click.echo(f"report: {chosen.build / 'report.html'}   numbers: {chosen.build / 'results.json'}")
