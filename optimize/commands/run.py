"""``optimize run``: a ranker through a recipe's stages and gates."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from rankers.command_line import json_option, print_json


@click.command()
@click.argument("ranker")
@click.option("--recipe", default="cpu-fp32", show_default=True, help="A name or a .toml file.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run's folder.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where artifacts are judged and measured, if their format can run there.",
)
@click.option("--time-limit", type=click.FloatRange(min=1), help="Seconds for each step.")
@click.option("--memory-limit", type=click.FloatRange(min=0.1), help="GiB for each step.")
@json_option
def run(
    *,
    ranker: str,
    recipe: str,
    out: Path,
    device: str,
    time_limit: float | None,
    memory_limit: float | None,
    as_json: bool,
) -> None:
    """Take RANKER through a recipe's stages and gates.

    RANKER is file.py:function, package.module:function, a checkpoint folder, or a name in the zoo.
    """
    from optimize.children import default_limits
    from optimize.pipeline import run_recipe
    from optimize.recipe import load_recipe
    from optimize.report import TerminalObserver, print_run

    limits = default_limits()
    if time_limit:
        limits = dataclasses.replace(limits, seconds=time_limit)
    if memory_limit:
        limits = dataclasses.replace(limits, memory_bytes=int(memory_limit * 2**30))
    observer = TerminalObserver()
    try:
        result = run_recipe(
            ranker, load_recipe(recipe), out, limits=limits, observer=observer, device=device
        )
    finally:
        observer.stop()
    if as_json:
        print_json(result.to_json())
    print_run(result)
    sys.exit(0 if result.passed else 1)
