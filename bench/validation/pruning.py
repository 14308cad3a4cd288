"""``python -m bench.validation.pruning``: what rankers of the zoo lose by half of their neurons.

Each ranker goes through the stage ``prune_neurons`` with no more steps of fine-tuning than a tenth
of its training's, and is judged on its evaluation requests, which the stage never sees: the change
of each metric with its 95 % interval from a paired bootstrap over requests. Nothing is timed, so a
busy machine gives the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.environment import environment
from bench.validation.result import earlier, hand_over
from rankers.command_line import CommandLine, json_option
from rankers.zoo.catalogue import ZOO, entry_of

KIND = "rankserve-validation-pruning"
_TENTH = 0.1


def fine_tuning_steps(name: str) -> int:
    """Return a tenth of the steps that training a zoo ranker takes on its log."""
    from rankers.zoo import training_options

    options = training_options(name)
    learned = entry_of(name).rows * (1 - options.held_out) * options.epochs
    return int(_TENTH * learned / options.batch_rows)


def prune_and_judge(name: str, options: dict[str, Any], store: Path) -> dict[str, Any]:
    """Prune a zoo ranker; return its layers and the changes of its metrics, JSON-ready."""
    from optimize.build import run_stage
    from optimize.capture import capture, load_evidence, score_batch
    from optimize.runtimes import open_predictor
    from optimize.stages.prune_neurons import REPORT
    from rankers.quality import quality, quality_difference
    from rankers.ranker import load_ranker

    captured = capture(load_ranker(name), store, candidates=[1])
    pruned = run_stage("prune_neurons", options, captured, store, data=captured)
    evidence = load_evidence(captured)
    scores = score_batch(open_predictor(pruned), evidence.evaluation, pruned.manifest.columns_of)
    batch, kind = evidence.evaluation, pruned.manifest.signature.score
    assert batch.labels is not None  # noqa: S101 - a ranker's evaluation has labels
    before = quality(evidence.scores, batch.labels, batch.offsets, kind)
    changes = quality_difference(evidence.scores, scores, batch.labels, batch.offsets, kind)
    said = json.loads((pruned.folder / REPORT).read_text())
    ends = [sum(x[f"multiply_adds_{end}"] for x in said["layers"]) for end in ("before", "after")]
    return {
        "options": options,
        "requests": len(batch),
        "rows": batch.rows,
        "multiply_adds": ends,
        "multiply_adds_kept": ends[1] / ends[0],
        "weight_bytes": [
            sum(x[f"bytes_{end}"] for x in said["layers"]) for end in ("before", "after")
        ],
        "changes": {
            metric: {
                "before": before.value(metric),
                "change": each.estimate,
                "interval": [each.low, each.high],
            }
            for metric, each in changes.items()
        },
        "layers": said["layers"],
        "fine_tuning": [
            {x: each[x] for x in ("steps", "best_step", "loss_before", "loss_after")}
            for each in said["fine_tuning"]
        ],
    }


def describe(name: str, one: dict[str, Any]) -> str:
    """Say in a line what a ranker kept and lost."""
    auc = one["changes"].get("auc", next(iter(one["changes"].values())))
    low, high = auc["interval"]
    return (
        f"{name:20} {one['multiply_adds_kept']:.1%} of multiply-adds kept, AUC "
        f"{auc['before']:.4f} {auc['change']:+.2g} [{low:+.2g}, {high:+.2g}]"
    )


def row(name: str, one: dict[str, Any]) -> str:
    """Return what became of a ranker as a row of the table in docs/pruning.md."""
    before, after = (round(each) for each in one["multiply_adds"])
    auc = one["changes"]["auc"]
    low, high = auc["interval"]
    told = f"{auc['change']:+.0e} | {low:+.0e} to {high:+.0e}".replace("e-0", "e-")
    steps = one["options"]["steps"]
    return f"| `{name}` | {before:,} | {after:,} | {steps} | {auc['before']:.4f} | {told} |"


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--ranker", "rankers", multiple=True, type=click.Choice([*ZOO]), default=[*ZOO])
@click.option("--budget", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option("--multiple", type=click.IntRange(1), default=8, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the result here after each ranker. Rankers in it already are not pruned again.",
)
@json_option
def main(
    rankers: tuple[str, ...], budget: float, multiple: int, out: Path | None, as_json: bool
) -> None:
    """Prune rankers of the zoo and judge them."""
    command = f"python -m bench.validation.pruning --budget {budget} --multiple {multiple}"
    result = earlier(out, {"kind": KIND, "schema": 1, "command": command})
    result["environment"] = environment().to_json()
    found = result.setdefault("rankers", {})
    for name in rankers:
        if name not in found:
            options = {
                "budget": budget,
                "multiple": multiple,
                "min_width": multiple,
                "low_rank": True,
                "steps": fine_tuning_steps(name),
            }
            with TemporaryDirectory() as store:
                found[name] = prune_and_judge(name, options, Path(store))
            hand_over(result, out, as_json=False)
        click.echo(describe(name, found[name]), err=as_json)
    hand_over(result, None, as_json=as_json)


if __name__ == "__main__":
    main()
