"""``optimize deploy``: an artifact into a Triton model repository."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from optimize.options import make_serving_options, serving_options
from rankers.command_line import json_option, print_json


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    default=Path("model_repository"),
    show_default=True,
    help="The Triton model repository.",
)
@click.option("--name", help="The model's name; the ranker's by default.")
@click.option(
    "--config-name", help="Make configs/NAME.pbtxt beside the model's default configuration."
)
@click.option("--ungated", is_flag=True, help="Deploy although no gate has passed it.")
@serving_options
@json_option
def deploy(
    *,
    artifact: Path,
    repository: Path,
    name: str | None,
    config_name: str | None,
    ungated: bool,
    as_json: bool,
    **serving: Any,
) -> None:
    """Put ARTIFACT (its folder, or a run's) into a Triton model repository."""
    from optimize.triton.deployable import find_deployable, notes_on
    from optimize.triton.repository import deploy as deploy_artifact
    from optimize.triton.serving_checks import missing_here

    found = find_deployable(artifact, serving["backend"] or "python")
    if not found.passed and not ungated:
        reasons = [f"{each.gate}: {each.reason}" for each in found.manifest.verdicts]
        why = "; ".join(reasons) or "no gate has looked at it"
        click.echo(f"{found.folder} is not deployed: {why} (--ungated deploys it still)", err=True)
        sys.exit(1)
    options = make_serving_options(serving)
    deployed = deploy_artifact(
        found,
        repository,
        name or found.manifest.name,
        options=options,
        ungated=ungated,
        config_name=config_name,
    )
    if options.backend == "python":
        missing = missing_here(deployed.folder.parent, config_name, deployed.version)
        if missing:
            click.echo(f"note: not to be served here: {missing}", err=True)
    if as_json:
        folder = str(deployed.folder)
        print_json({"name": deployed.name, "version": deployed.version, "folder": folder})
    else:
        click.echo(f"deployed {deployed.name} version {deployed.version}: {deployed.folder}")
        if options.backend == "python":
            chosen = f" --model-config-name {config_name}" if config_name else ""
            click.echo(f"serve it: python -m optimize serve --repository {repository}{chosen}")
        else:
            click.echo("serve it: in NVIDIA's image, as Dockerfile.triton says")
        for line in notes_on(found):
            click.echo(line)
