"""``optimize measure``: artifacts in turn, as a recipe with branches does in a child process."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rankers.command_line import fail, print_json


@click.command()
@click.argument("artifacts", nargs=-1, required=True, metavar="NAME=ARTIFACT…")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    required=True,
    help="The captured original: a capture folder of a run.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder to make.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where formats that can run there are run.",
)
@click.option("--options", default="{}", help="As JSON: a recipe's [measure] table.")
def measure(
    *, artifacts: tuple[str, ...], against: Path, out: Path, device: str, options: str
) -> None:
    """Measure ARTIFACTS in turn, simplest first, and choose one.

    This is what a recipe with branches does once they are built: nothing else should run meanwhile.
    """
    from optimize.artifact import open_artifact
    from optimize.branches import MeasureOptions
    from optimize.measuring import measure_artifacts
    from rankers.files import new_folder

    try:
        chosen = MeasureOptions.from_json(json.loads(options))
    except ValueError as error:
        fail(f"--options is not JSON: {error}")
    named = {}
    for each in artifacts:
        name, equals, folder = each.partition("=")
        if not equals or not name or name in named:
            fail(f"{each!r}: expected NAME=ARTIFACT, each name once")
        named[name] = open_artifact(Path(folder))
    measured = measure_artifacts(named, open_artifact(against), chosen, device=device)
    with new_folder(out) as aside:
        measured.write(aside)
    print_json({"kept": measured.kept, "fastest": measured.fastest})
