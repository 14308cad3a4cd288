"""Recipes over the zoo: what each does to the size and to the ranking of every ranker.

Each ranker is trained with the defaults of ``python -m rankers train``, once for all recipes, and
goes through each recipe as by ``python -m optimize run``. What is written down is what the gates
found on the artifact that was chosen, and its bytes beside those of the original: quality and sizes
are the same on a busy machine. Whether a stage that has to pay did is measured on the machine at
hand, so that, and its reason, hold there alone.

    python -m bench.validation.zoo_recipes --work build/zoo --out FILE

The recipes for a GPU round here as one would, and time nothing:

    python -m bench.validation.zoo_recipes --work build/zoo --recipe gpu-fp16 --recipe gpu-int8 \
        --recipe gpu-fp8 --out FILE
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.environment import environment, load_average
from bench.validation.result import earlier, hand_over
from rankers.command_line import CommandLine, json_option
from rankers.zoo.catalogue import ZOO

if TYPE_CHECKING:
    from optimize.run import Run

KIND = "zoo recipes"
METRICS = ("auc", "gauc", "ndcg_at_10", "logloss", "calibration_error")
# By how wide tables become in it.
TABLE_RECIPES = {"int8": "cpu-small", "int4": "bench/int4-tables.toml"}
RECIPES = (*TABLE_RECIPES.values(), "cpu-fast")
PRUNED_RECIPES = ("cpu-pruned",)
GPU_RECIPES = ("gpu-fp16", "gpu-int8", "gpu-fp8")


def trained(name: str, work: Path) -> Path:
    """Return the folder of a zoo ranker's checkpoint, training it if it is not there."""
    from rankers.checkpoint import save_checkpoint
    from rankers.data.source import read_log
    from rankers.zoo import train_zoo, training_options

    folder = work / name
    if not folder.exists():
        entry = ZOO[name]
        log = read_log(f"synthetic:{entry.log}", rows=entry.rows)
        ranker, options, training = train_zoo(name, log, training_options(name))
        save_checkpoint(folder, ranker, options, training.to_json())
    return folder


def outcome(run: Run) -> dict[str, Any]:
    """Return what a recipe made of a ranker, JSON-ready."""
    said: dict[str, Any] = {
        "passed": run.passed,
        "stages": {
            each.name: each.dropped or ("kept" if each.artifact.passed else "failed")
            for each in run.results[1:]
        },
        "original_bytes": run.results[0].artifact.model_bytes,
        "tables": _tables(run),
    }
    if run.chosen is None or not run.passed:
        said["failed"] = [
            f"{each.name}: {verdict.gate}: {verdict.reason}"
            for each in run.results
            for verdict in each.artifact.manifest.verdicts
            if not verdict.passed
        ]
        return said
    verdicts = {each.gate: each for each in run.chosen.manifest.verdicts}
    quality = verdicts["quality"].numbers
    return said | {
        "bytes": run.chosen.model_bytes,
        "precision": run.chosen.manifest.precision,
        "max_score_change": verdicts["parity"].numbers["max_abs"],
        "quality": {name: quality[name] for name in METRICS if name in quality},
        "verdicts": {name: each.reason for name, each in verdicts.items()},
        "gains": {each.name: each.gain.to_json() for each in run.results if each.gain is not None},
    }


def _tables(run: Run) -> list[dict[str, Any]]:
    """Return what became of each table, of the stage that made them smaller, if there is one."""
    files = [each.artifact.folder / "tables.json" for each in run.results]
    found: list[dict[str, Any]] = []
    for each in files:
        if each.exists():
            found = json.loads(each.read_text())["tables"]
    return found


def tables_row(ranker: str, by_recipe: dict[str, Any]) -> str:
    """Return what became of a ranker's tables, as a row of the table in docs/quantization.md.

    Args:
        ranker: Its name.
        by_recipe: What recipes made of it, of which those named in `TABLE_RECIPES` are told.
    """
    told: list[str] = []
    for width, recipe in TABLE_RECIPES.items():
        one = by_recipe[recipe]
        changed = [each for each in one["tables"] if each["width"] == width]
        if not told:
            told += [
                str(max(each["dimension"] for each in changed)),
                f"{len(changed)} of {len(one['tables'])}",
            ]
        before, after = (sum(x[f"bytes_{when}"] for x in changed) for when in ("before", "after"))
        told += [
            f"{before / after:.2f}\N{MULTIPLICATION SIGN}",
            f"{max(x['median_row_error'] for x in changed):.2%}",
        ]
        told.append(_auc(one) if one["passed"] else "stopped by the gates")
    return f"| `{ranker}` | {' | '.join(told)} |".replace("%", " %")


def _auc(one: dict[str, Any]) -> str:
    auc = one["quality"]["auc"]
    return f"{auc['delta']:+.0e} ({auc['low']:+.0e} to {auc['high']:+.0e})".replace("e-0", "e-")


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--ranker", "rankers", multiple=True, type=click.Choice([*ZOO]), default=[*ZOO])
@click.option("--recipe", "recipes", multiple=True, default=RECIPES, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="Rankers and runs are kept here."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the result here after each run. What is in it already is not done again.",
)
@json_option
def main(
    *,
    rankers: tuple[str, ...],
    recipes: tuple[str, ...],
    work: Path,
    out: Path | None,
    as_json: bool,
) -> None:
    """Take the zoo through recipes, and write down what became of each ranker."""
    from optimize.children import default_limits
    from optimize.pipeline import run_recipe
    from optimize.recipe import load_recipe

    command = "python -m bench.validation.zoo_recipes --work build/zoo" + "".join(
        f" --recipe {each}" for each in recipes
    )
    started = {"kind": KIND, "schema": 1, "command": command}
    here = {"environment": environment().to_json(), "load_average": load_average()}
    result = earlier(out, started)
    result = {**started, **here, **result}
    found: dict[str, dict[str, Any]] = result.setdefault("rankers", {})
    for ranker in rankers:
        done = found.setdefault(ranker, {})
        for recipe in recipes:
            if recipe not in done:
                run = run_recipe(
                    str(trained(ranker, work)),
                    load_recipe(recipe),
                    work / f"{ranker}-{Path(recipe).stem}",
                    limits=default_limits(),
                )
                done[recipe] = outcome(run)
                hand_over(result, out, as_json=False)
            click.echo(sentence(ranker, recipe, done[recipe]), err=as_json)
    hand_over(result, None, as_json=as_json)


def sentence(ranker: str, recipe: str, one: dict[str, Any]) -> str:
    """Say in a line what a recipe made of a ranker."""
    if "failed" in one:
        return f"{ranker}, {recipe}: {'; '.join(one['failed'])}"
    dropped = [name for name, said in one["stages"].items() if said != "kept"]
    return (
        f"{ranker}, {recipe}: {one['bytes'] / one['original_bytes']:.3f} of the bytes, "
        f"{one['verdicts']['quality']}" + (f"; dropped: {', '.join(dropped)}" if dropped else "")
    )


if __name__ == "__main__":
    main()
