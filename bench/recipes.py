"""Recipes as targets: each is run on one ranker first, and what it makes is measured."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.targets import Target

FOLDER = Path("build/recipes")


def run_recipes(ranker: str, recipes: tuple[str, ...]) -> tuple[list[str], Path]:
    """Take a ranker through recipes, from the cache where it was before.

    Args:
        ranker: As `rankers.ranker.load_ranker` takes it.
        recipes: Names of built-in recipes, or ``.toml`` files.

    Returns:
        The folder of each run, under `FOLDER`, and a file of the ranker's evaluation requests.

    Raises:
        UserError: A recipe is unknown, or none of its artifacts passed the gates.
    """
    from optimize.artifact import EVIDENCE
    from optimize.capture import EVALUATION
    from optimize.children import default_limits
    from optimize.pipeline import run_recipe
    from optimize.recipe import load_recipe
    from optimize.report import TerminalObserver

    loaded = [load_recipe(each) for each in recipes]  # mistakes first
    folders: list[str] = []
    requests = Path()
    for recipe in loaded:
        out = FOLDER / re.sub(r"[^A-Za-z0-9.-]+", "_", f"{ranker}-{recipe.name}")
        observer = TerminalObserver()
        try:
            run = run_recipe(ranker, recipe, out, limits=default_limits(), observer=observer)
        finally:
            observer.stop()
        if not run.passed:
            raise UserError(f"recipe {recipe.name!r} did not pass its gates on {ranker}; see {out}")
        folders.append(str(out))
        requests = run.results[0].artifact.folder / EVIDENCE / EVALUATION
    return folders, requests


def named_apart(targets: Sequence[Target], recipes: Sequence[str]) -> list[Target]:
    """Return the targets with the recipe in the name of each whose name came before.

    A recipe that has nothing to do for a ranker makes what a shorter one makes, as
    ``cpu-fp32`` does where the flat program is kept.

    Args:
        targets: Opened artifacts.
        recipes: What made each.
    """
    found: list[Any] = []
    for target, recipe in zip(targets, recipes, strict=True):
        before = target.name in {each.name for each in found}
        name = f"{target.name} ({Path(recipe).stem})" if before else target.name
        found.append(replace(target, name=name) if before else target)  # type: ignore[type-var]
    return found
