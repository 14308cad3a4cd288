"""``optimize check``: what stands in the way of a ranker, or of an artifact."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankers.command_line import fail, json_option, print_json

if TYPE_CHECKING:
    from optimize.tensorrt.compatibility import Target


@click.command()
@click.argument("target")
@click.option("--tensorrt", default="", help="Of a plan: the version where it serves, as 10.9.")
@click.option("--gpu", default="", help="Of a plan: the GPU where it serves, as 'NVIDIA H200'.")
@click.option("--compute-capability", default="", help="Of a plan: that GPU's, as 9.0.")
@json_option
def check(*, target: str, tensorrt: str, gpu: str, compute_capability: str, as_json: bool) -> None:
    """Diagnose a ranker before it is converted, or check that an artifact runs here.

    TARGET is a ranker (file.py:function, package.module:function, a checkpoint folder, a name in
    the zoo), an artifact's folder or a run's. A TensorRT plan is held against this machine, or
    against the one that the options describe; so is a graph in fp8.
    """
    from optimize.tensorrt.compatibility import Target
    from rankers.checkpoint import DESCRIPTION

    folder = Path(target)
    given = Target(tensorrt, gpu, compute_capability)
    serving = None if given == Target() else given
    if folder.is_dir() and not (folder / DESCRIPTION).is_file():
        passed = _artifact(folder, serving, as_json=as_json)
    elif serving is not None:
        fail("--tensorrt, --gpu and --compute-capability are for a TensorRT plan's folder")
    else:
        passed = _ranker(target, as_json=as_json)
    sys.exit(0 if passed else 1)


def _ranker(spec: str, *, as_json: bool) -> bool:
    """Diagnose a ranker."""
    from optimize.diagnosis.diagnose import diagnose
    from optimize.diagnosis.report import print_diagnosis
    from rankers.ranker import load_ranker

    # What the module or torch prints must not come between the lines of a JSON object.
    with redirect_stdout(sys.stderr):
        diagnosis = diagnose(load_ranker(spec))
    if as_json:
        print_json(diagnosis.to_json())
    else:
        print_diagnosis(diagnosis)
    return diagnosis.passed


def _artifact(folder: Path, serving: Target | None, *, as_json: bool) -> bool:
    """Check that an artifact is whole, was gated, and runs on this machine or where it serves."""
    from optimize.requirements import check_artifact
    from optimize.run import find_artifact

    found = find_artifact(folder)
    checks = check_artifact(found, serving)
    passed = all(ok for _, ok, _ in checks)
    if as_json:
        listed = [{"check": name, "passed": ok, "found": text} for name, ok, text in checks]
        print_json({"folder": str(found.folder), "passed": passed, "checks": listed})
    else:
        for name, ok, text in checks:
            click.echo(f"{'✓' if ok else '✗'} {name}: {text}")
    return passed
