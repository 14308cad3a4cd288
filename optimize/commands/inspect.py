"""``optimize inspect``: what an artifact says of itself."""

from __future__ import annotations

from pathlib import Path

import click

from rankers.command_line import json_option, print_json


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """Print what ARTIFACT (its folder, or a run's) says of itself."""
    from optimize.report import print_artifact
    from optimize.run import find_artifact

    found = find_artifact(artifact)
    if as_json:
        manifest = found.manifest.to_json()
        print_json({"folder": str(found.folder), "model_bytes": found.model_bytes} | manifest)
    else:
        print_artifact(found)
