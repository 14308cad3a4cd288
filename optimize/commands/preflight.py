"""``optimize preflight``: whether TensorRT would take a graph, and the script that builds it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rankers.command_line import fail, json_option, print_json


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--candidates",
    default="1,200,4096",
    show_default=True,
    help="Of a request: least, usual, most.",
)
@click.option("--requests", default="1,1,16", show_default=True, help="Joined: least, usual, most.")
@click.option("--script", is_flag=True, help="Print the script that builds the engine instead.")
@click.option(
    "--recipe-script",
    metavar="RECIPE",
    help="Print the script that runs RECIPE, such as gpu-trt, in NVIDIA's container instead.",
)
@json_option
def preflight(
    *,
    artifact: Path,
    candidates: str,
    requests: str,
    script: bool,
    recipe_script: str | None,
    as_json: bool,
) -> None:
    """Hold ARTIFACT (ONNX) against TensorRT's operators, types and profiles.

    A line for each finding; TensorRT itself is not needed.
    """
    from optimize.gpu_graphs import COMPUTE_CAPABILITY
    from optimize.recipe import load_recipe
    from optimize.run import find_artifact
    from optimize.tensorrt.operators import operators
    from optimize.tensorrt.preflight import check_graph
    from optimize.tensorrt.profiles import Span, make_profile
    from optimize.tensorrt.script import build_script
    from optimize.tensorrt.script import recipe_script as script_of

    found = find_artifact(artifact)
    if found.manifest.format != "onnx":
        fail(f"{found.folder}: preflight reads onnx artifacts; this one is {found.manifest.format}")
    profile, findings = make_profile(
        found.manifest,
        found.model_path,
        Span(*_three(candidates, "--candidates")),
        Span(*_three(requests, "--requests")),
    )
    findings = (*check_graph(found.model_path), *findings)
    if recipe_script:
        load_recipe(recipe_script)
        script = True
    least = found.manifest.requires.get(COMPUTE_CAPABILITY, "")
    built = build_script(found.manifest.model, profile, name=found.manifest.name, least=least)
    if as_json:
        print_json(
            {
                "folder": str(found.folder),
                "tensorrt": operators().version,
                "passed": not findings,
                "findings": [
                    {"node": x.node, "operator": x.operator, "problem": x.problem} for x in findings
                ],
                "profile": profile.shapes,
                "script": built,
            }
        )
    elif script:
        click.echo(script_of(recipe_script) if recipe_script else built, nl=False)
    for each in findings if not as_json else ():
        click.echo(f"✗ {each}", err=script)
    if not (findings or as_json or script):
        nodes = f"TensorRT {operators().version} has every operator, in these types"
        click.echo(f"✓ {nodes}; the profile fits. Not built: that needs a GPU (--script)")
    sys.exit(1 if findings else 0)


def _three(text: str, option: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(each.strip().isdigit() for each in parts):
        fail(f"{option} is {text!r}; expected three whole numbers, such as 1,200,4096")
    least, usual, most = (int(each) for each in parts)
    return least, usual, most
