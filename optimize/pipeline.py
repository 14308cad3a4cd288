"""Run a recipe: capture the ranker, then stage by stage make, judge and keep artifacts.

::

    OUT/
      run.json                       what happened, and which artifact was chosen
      artifacts/1-capture-…/         what each step made, with the gates' verdicts
      artifacts/2-export_onnx-…/
      measurements.json              of a recipe with branches: a results file of the bench
      logs/…/                        each child's log.txt and reproduce.sh
      .cache/                        results by content, so that nothing is done twice

A kill at any moment leaves whole artifacts only; the next run takes them up and goes on.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optimize.branching import run_branches
from optimize.capture import STAGE as CAPTURE
from optimize.devices import no_cuda, unmet_device
from optimize.run import MEASUREMENTS, RUN_FILE, Run
from optimize.steps import Silent, Steps
from optimize.warm import Warm
from rankers.errors import UserError
from rankers.files import remove_leftovers, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optimize.artifact import Artifact
    from optimize.children import Limits
    from optimize.recipe import Recipe
    from optimize.steps import MeasureGain, Observer


def run_recipe(
    ranker: str,
    recipe: Recipe,
    out: Path,
    *,
    limits: Limits,
    observer: Observer | None = None,
    measure_gain: MeasureGain | None = None,
    device: str = "cpu",
) -> Run:
    """Take a ranker through a recipe.

    Args:
        ranker: What `rankers.ranker.load_ranker` takes. It is loaded in a child process.
        recipe: The stages and the limits of the gates.
        out: The run's folder; made if missing. What is there already is used again.
        limits: Of each child process.
        observer: Is told how it goes on.
        measure_gain: Tells what an artifact gained over another at the recipe's sizes; by default
            they are measured in a child process.
        device: Where artifacts are judged and measured, if their format can run there. Branches
            that are for another one are skipped; where there is none, all run on the CPU.

    Returns:
        The run, also written to ``OUT/run.json``. A failed gate ends it early, unless the stage is
        one that is kept only if better, or if passed: that is dropped, and the run goes on from its
        input.

    Raises:
        UserError: A step could not be done at all, a stage is for a device that is not there, or
            another run is working in ``out``.
    """
    observer = observer or Silent()
    missing = no_cuda() if device == "cuda" else None
    if missing:
        observer.noticed(f"--device cuda: skipped: {missing}; the run goes on on the CPU")
        device = "cpu"
    unmet = unmet_device((use.stage for use in recipe.stages), device)
    if unmet:
        raise UserError(f"recipe {recipe.name!r}: {unmet}")
    with _only_run_in(out), Warm() as warm:
        steps = Steps(recipe, out, limits, observer, measure_gain, device=device, warm=warm)
        result = steps.capture(ranker)
        for use in recipe.stages:
            if not result.artifact.passed:
                break
            made = steps.stage(use, result.artifact)
            result = result if made.dropped else made
        reached_all = len(steps.results) == len(recipe.stages) + 1
        if recipe.branches and reached_all and result.artifact.passed:
            run = _run_branches(recipe, result.artifact, steps, out)
        else:
            deployable = [
                each.artifact
                for each in steps.results
                if each.artifact.passed and not each.dropped and each.name != CAPTURE
            ]
            run = Run(
                out=out,
                recipe=recipe.name,
                results=tuple(steps.results),
                chosen=deployable[-1] if deployable else None,
                passed=reached_all and result.artifact.passed and not recipe.branches,
            )
        write_atomically(out / RUN_FILE, json.dumps(run.to_json(), indent=2) + "\n")
    return run


def _run_branches(recipe: Recipe, source: Artifact, steps: Steps, out: Path) -> Run:
    chosen = run_branches(recipe.branches, source, steps, recipe.measure)
    kept = None if chosen.kept is None else steps.keep(chosen.kept, chosen.notes)
    run = Run(
        out, recipe.name, tuple(steps.results), kept, passed=kept is not None, branches=chosen
    )
    if chosen.measured is not None:
        from bench.results_file import save_results

        save_results(chosen.measured.comparison, out / MEASUREMENTS)
    return run


@contextmanager
def _only_run_in(out: Path) -> Iterator[None]:
    """Hold ``out`` for one run, and clear what a killed one left half-made."""
    try:
        (out / "artifacts").mkdir(parents=True, exist_ok=True)
        (out / ".cache").mkdir(exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{out}: another run is working here; wait, or use another --out"
            ) from error
        for folder in (out, out / "artifacts", out / ".cache"):
            remove_leftovers(folder)
        yield
