"""The steps of a run alone: ``optimize capture``, ``stage``, ``gate`` and ``gain``.

The pipeline calls them in child processes; each can be repeated by hand.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from rankers.command_line import fail, print_json


@click.command()
@click.argument("ranker")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Keeps the result.")
@click.option("--candidates", default="1,2,37,200,700", show_default=True, help="N to probe at.")
def capture(ranker: str, store: Path, candidates: str) -> None:
    """Export RANKER to a torch program with its evidence (the first step of `run`)."""
    from optimize.capture import capture as capture_ranker
    from rankers.ranker import load_ranker

    counts = _counts(candidates)
    # What the module prints must not come between the lines of the JSON object.
    with redirect_stdout(sys.stderr):
        made = capture_ranker(load_ranker(ranker), store, candidates=counts)
    print_json({"artifact": str(made.folder)})


@click.command()
@click.argument("name")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Keeps the result.")
@click.option("--options", default="{}", help="The stage's options as a JSON object.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The captured ranker, a capture folder of a run, for a stage that learns from requests.",
)
def stage(name: str, artifact: Path, store: Path, options: str, data: Path | None) -> None:
    """Run the stage NAME on ARTIFACT alone, without gates."""
    from optimize.artifact import open_artifact
    from optimize.build import run_stage

    chosen = _json_object(options, "--options")
    captured = None if data is None else open_artifact(data)
    with redirect_stdout(sys.stderr):  # libraries print as well: histograms, for one
        made = run_stage(name, chosen, open_artifact(artifact), store, data=captured)
    print_json({"artifact": str(made.folder)})


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    required=True,
    help="The captured original: a capture folder of a run.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where formats that can run there are run.",
)
@click.option("--limits", default="{}", help='As JSON: {"parity": {…}, "quality": {…}, …}.')
def gate(artifact: Path, against: Path, device: str, limits: str) -> None:
    """Judge ARTIFACT against the captured original; print the verdicts."""
    from optimize.artifact import open_artifact
    from optimize.gates import judge
    from optimize.recipe import gate_limits

    held = gate_limits(_json_object(limits, "--limits"))
    verdicts = judge(
        open_artifact(artifact),
        open_artifact(against),
        held.parity,
        held.quality,
        ranking=held.ranking,
        slices=held.slices,
        device=device,
    )
    print_json({"verdicts": [each.to_json() for each in verdicts]})


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--over", type=click.Path(path_type=Path), required=True, help="What it was made from."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="The captured ranker, whose evaluation requests are sent.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where formats that can run there are run.",
)
@click.option("--candidates", default="50", show_default=True, help="N of the requests.")
@click.option("--seconds", default=2.0, show_default=True, help="For each N, about.")
def gain(
    *, artifact: Path, over: Path, data: Path, device: str, candidates: str, seconds: float
) -> None:
    """Measure ARTIFACT and what it was made from in turn; print what was gained."""
    from optimize.artifact import open_artifact
    from optimize.gain import measure_gain

    found = measure_gain(
        open_artifact(artifact),
        open_artifact(over),
        open_artifact(data),
        candidates=_counts(candidates),
        seconds=seconds,
        device=device,
    )
    print_json(found.to_json())


def _counts(text: str) -> list[int]:
    counts = [int(each) for each in text.split(",") if each.strip().isdigit()]
    if not counts or min(counts) < 1:
        fail(f"--candidates is {text!r}; expected whole numbers from 1, such as 1,200")
    return counts


def _json_object(text: str, option: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        fail(f"{option} is not JSON: {error}")
    if not isinstance(data, dict):
        fail(f"{option} is not a JSON object")
    found: dict[str, Any] = data
    return found
