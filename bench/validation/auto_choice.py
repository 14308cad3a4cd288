"""``python -m bench.validation.auto_choice``: is the recipe ``auto`` right about what is fastest?

Each ranker of the zoo goes through the recipe, and through its flat branches alone. What it kept is
then measured again, with requests of one size and the recipe's threads, against each branch's
artifact, the trained module in eager torch and ``torch.compile``: in turn, in drawn order, and
opened anew in several processes, for one artifact opened twice is often a few per cent from itself.
The artifact that was kept runs twice, as ``auto`` and under its branch's name: how far the two are
apart is noise.

What is done stays in ``--work`` and ``--out``: a run that was cut goes on, and a ranker at a time
can be measured.

    python -m bench.validation.auto_choice --work build/zoo --out FILE
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.environment import environment, load_average
from bench.validation.auto_summary import EAGER, describe, summarize
from bench.validation.openings import Opened, measure_openings
from bench.validation.result import earlier, hand_over
from bench.validation.zoo_recipes import trained
from rankers.command_line import CommandLine, json_option
from rankers.zoo.catalogue import ZOO

if TYPE_CHECKING:
    from optimize.recipe import Recipe
    from optimize.run import Run

KIND = "rankserve-validation-auto-choice"
AUTO, FLAT = "auto", "auto, flat branches"


def flat_branches(recipe: Recipe) -> Recipe:
    """Return the recipe without the branches that compute the user's part once a request."""
    flat = tuple(each for each in recipe.branches if each.layout != "user_once")
    return replace(recipe, name=f"{recipe.name}-flat", branches=flat)


def choose_artifacts(checkpoint: str, recipe: Recipe, folder: Path) -> tuple[Run, Run]:
    """Run a recipe, and its flat branches alone; what was built for one is there for the other.

    Args:
        checkpoint: The ranker, as `rankers.ranker.load_ranker` takes it.
        recipe: With branches.
        folder: Where the run is kept. The whole recipe's is the one whose file stays.
    """
    from optimize.children import default_limits
    from optimize.pipeline import run_recipe

    flat = run_recipe(checkpoint, flat_branches(recipe), folder, limits=default_limits())
    return run_recipe(checkpoint, recipe, folder, limits=default_limits()), flat


def opened_targets(
    run: Run, flat: Run, checkpoint: str, threads: int | None = None
) -> tuple[Opened, ...]:
    """Return what is measured of a ranker: what was kept, each branch's artifact, eager torch."""
    if run.chosen is None or flat.chosen is None or run.branches is None:
        raise AssertionError("the simplest branch that passed is kept")
    built = [each for each in run.branches.branches if each.artifact is not None]
    kept = {AUTO: run.chosen, FLAT: flat.chosen}
    return (
        *(Opened(name, str(each.folder), threads) for name, each in kept.items()),
        *(Opened(each.name, str(each.artifact.folder), threads) for each in built if each.artifact),
        Opened(EAGER, checkpoint, threads),
    )


def measure_choice(
    run: Run,
    flat: Run,
    checkpoint: str,
    *,
    candidates: int,
    openings: int,
    seconds: float,
    threads: int | None = None,
) -> dict[str, Any]:
    """Measure what was kept against all else; return it JSON-ready."""
    from bench.compare import compare_rounds

    busy = load_average()
    targets = opened_targets(run, flat, checkpoint, threads)
    found = measure_openings(
        targets, checkpoint, candidates=candidates, openings=openings, seconds=seconds
    )
    names = [each.name for each in targets]

    def against(baseline: str) -> list[Any]:
        ratios = compare_rounds(found.rounds, names, baseline=names.index(baseline))
        return [each.to_json() for each in ratios]

    return {
        "candidates": candidates,
        "openings": openings,
        "threads": threads,
        "load_average": busy,
        "kept": {AUTO: _kept(run), FLAT: _kept(flat)},
        "branches": {
            each.name: {"end": each.end, "reason": each.reason}
            for each in (run.branches.branches if run.branches else ())
        },
        "measured": found.to_json(names),
        "ratios": {AUTO: against(AUTO), FLAT: against(FLAT)},
    }


def _kept(run: Run) -> str:
    if run.branches is None:
        raise AssertionError("the recipe has branches")
    return next(each.name for each in run.branches.branches if each.end == "kept")


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--ranker", "rankers", multiple=True, type=click.Choice([*ZOO]), default=[*ZOO])
@click.option("--recipe", default="auto", show_default=True, help="A recipe with branches.")
@click.option("--candidates", type=click.IntRange(1), default=200, show_default=True)
@click.option("--openings", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=90,
    show_default=True,
    help="That measuring a ranker again may take about, over all targets and openings.",
)
@click.option(
    "--choose-only", is_flag=True, help="Build and choose, and measure nothing again: a first half."
)
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="Rankers and runs are kept here."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the result here after each ranker. Rankers in it already are not measured again.",
)
@json_option
def main(
    *,
    rankers: tuple[str, ...],
    recipe: str,
    candidates: int,
    openings: int,
    seconds: float,
    choose_only: bool,
    work: Path,
    out: Path | None,
    as_json: bool,
) -> None:
    """Let a recipe with branches choose for each ranker, and measure whether it was right."""
    from optimize.recipe import load_recipe

    settings = f"--recipe {recipe} --candidates {candidates} --openings {openings}"
    command = f"python -m bench.validation.auto_choice --work build/zoo {settings}"
    asked = load_recipe(recipe)
    found = earlier(out, {"kind": KIND, "command": command}).get("rankers", {})
    for name in rankers:
        if name in found:
            continue
        checkpoint = str(trained(name, work))
        run, flat = choose_artifacts(checkpoint, asked, work / f"{name}-{Path(recipe).stem}")
        if choose_only:
            click.echo(f"{name}: kept {_kept(run)}; of the flat, {_kept(flat)}", err=as_json)
            continue
        found[name] = measure_choice(
            run,
            flat,
            checkpoint,
            candidates=candidates,
            openings=openings,
            seconds=seconds,
            threads=asked.measure.threads,
        )
        click.echo(describe(name, found[name]), err=as_json)
        hand_over(_result(command, found), out, as_json=False)
    hand_over(_result(command, found), None, as_json=as_json)
    if found:
        for line in summarize(found)["said"]:
            click.echo(line, err=as_json)


def _result(command: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": KIND,
        "schema": 1,
        "command": command,
        "environment": environment().to_json(),
        "rankers": {name: found[name] for name in ZOO if name in found},
        "summary": summarize(found),
    }


if __name__ == "__main__":
    main()
