"""``optimize inspect`` and ``optimize check``: what is known of an artifact."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rankers.command_line import json_option, print_json


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """Print what ARTIFACT (its folder, or a run's) says of itself."""
    from optimize.pipeline import find_artifact
    from optimize.report import print_artifact

    found = find_artifact(artifact)
    if as_json:
        manifest = found.manifest.to_json()
        print_json({"folder": str(found.folder), "model_bytes": found.model_bytes} | manifest)
    else:
        print_artifact(found)


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def check(artifact: Path, as_json: bool) -> None:
    """Check that ARTIFACT is whole, was gated, and runs on this machine."""
    from optimize.pipeline import find_artifact
    from optimize.requirements import check_artifact

    found = find_artifact(artifact)
    checks = check_artifact(found)
    passed = all(ok for _, ok, _ in checks)
    if as_json:
        listed = [{"check": name, "passed": ok, "found": text} for name, ok, text in checks]
        print_json({"folder": str(found.folder), "passed": passed, "checks": listed})
    else:
        for name, ok, text in checks:
            click.echo(f"{'✓' if ok else '✗'} {name}: {text}")
    sys.exit(0 if passed else 1)
