"""``python -m bench.validation.quantize_aware``: what rounding loses with fine-tuning and without.

Trained rankers of the zoo go through ``quantize_static`` in several ways, some of them bad on
purpose: as they are, and after ``quantize_aware`` has taught them to bear the same rounding. Each
is judged on its evaluation requests, which neither stage sees: the change of each metric from the
ranker in floats, and from without fine-tuning to with it, each with its 95 % interval from a paired
bootstrap over requests. Nothing is timed, so a busy machine gives the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.environment import environment
from bench.validation.result import earlier, hand_over
from bench.validation.zoo_recipes import trained
from rankers.command_line import CommandLine, json_option
from rankers.zoo.catalogue import ZOO

if TYPE_CHECKING:
    from optimize.artifact import Artifact
    from optimize.capture import Evidence
    from rankers.requests import Array

KIND = "rankserve-validation-quantize-aware"
# Options of quantize_static. Percentile ranges this low cut one value in twenty.
WAYS: dict[str, dict[str, Any]] = {
    "int8": {},
    "int8, ranges too narrow": {"ranges": "percentile", "percentile": 95.0},
    "int4 weights": {"weights": "int4"},
}


def round_and_judge(ranker: str, steps: int, store: Path) -> dict[str, Any]:
    """Round a ranker in each way of `WAYS`, without fine-tuning and with it.

    Args:
        ranker: As `rankers.ranker.load_ranker` takes it, with calibration requests.
        steps: The most that fine-tuning takes.
        store: Keeps what is built.

    Returns:
        What became of it, JSON-ready.
    """
    from optimize.build import run_stage
    from optimize.capture import capture, load_evidence
    from rankers.quality import quality
    from rankers.ranker import load_ranker

    captured = capture(load_ranker(ranker), store, candidates=[1])
    evidence = load_evidence(captured)
    batch = evidence.evaluation
    if batch.labels is None:
        raise AssertionError("a ranker's evaluation has labels")
    before = quality(
        evidence.scores, batch.labels, batch.offsets, captured.manifest.signature.score
    )
    ways = {}
    for name, options in WAYS.items():
        learning = {"steps": steps, "weights": options.get("weights", "int8")}
        taught = run_stage("quantize_aware", learning, captured, store, data=captured)
        without, with_it = (_rounded(each, options, captured, store) for each in (captured, taught))
        plain, learnt = (_scores(each, evidence) for each in (without, with_it))
        kind = captured.manifest.signature.score
        ways[name] = {
            "options": options,
            "without": _changes(evidence, evidence.scores, plain, kind),
            "with": _changes(evidence, evidence.scores, learnt, kind),
            "gained": _changes(evidence, plain, learnt, kind),
            "notes": [
                *(x for x in taught.manifest.notes if x.startswith("quantize_aware")),
                *(x for x in without.manifest.notes if x.startswith("quantize_static")),
            ],
        }
    names = next(iter(ways.values()))["without"]
    return {
        "requests": len(batch),
        "rows": batch.rows,
        "steps": steps,
        "float": {metric: before.value(metric) for metric in names},
        "ways": ways,
    }


def _rounded(
    program: Artifact, options: dict[str, Any], captured: Artifact, store: Path
) -> Artifact:
    from optimize.build import run_stage

    exported = run_stage("export_onnx", {}, program, store)
    return run_stage("quantize_static", options, exported, store, data=captured)


def _scores(artifact: Artifact, evidence: Evidence) -> Array:
    from optimize.capture import score_batch
    from optimize.runtimes import open_predictor

    return score_batch(open_predictor(artifact), evidence.evaluation, artifact.manifest.columns_of)


def _changes(evidence: Evidence, before: Array, after: Array, kind: Any) -> dict[str, Any]:
    from rankers.quality import quality_difference

    batch = evidence.evaluation
    assert batch.labels is not None  # noqa: S101 - looked at before
    found = quality_difference(before, after, batch.labels, batch.offsets, kind)
    return {
        metric: {"change": each.estimate, "interval": [each.low, each.high]}
        for metric, each in found.items()
    }


def describe(name: str, way: str, one: dict[str, Any], metric: str = "auc") -> str:
    """Say in a line what rounding one way cost, without fine-tuning and with it."""
    if metric not in one["without"]:
        metric = next(iter(one["without"]))
    said = []
    for which in ("without", "with", "gained"):
        change = one[which][metric]
        low, high = change["interval"]
        said.append(f"{which} {change['change']:+.2g} [{low:+.2g}, {high:+.2g}]")
    return f"{name:12} {way:24} {metric}: {', '.join(said)}"


def row(name: str, way: str, one: dict[str, Any]) -> str:
    """Return what rounding one way cost as a row of the table in docs/finetuning.md."""
    told = []
    for which in ("without", "with", "gained"):
        auc = one[which]["auc"]
        low, high = auc["interval"]
        told.append(f"{auc['change']:+.0e} ({low:+.0e} to {high:+.0e})".replace("e-0", "e-"))
    return f"| `{name}` | {way} | {' | '.join(told)} |"


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option(
    "--ranker",
    "rankers",
    multiple=True,
    type=click.Choice([*ZOO]),
    default=("dlrm", "dcn_v2", "deepfm", "wide_deep"),
    show_default=True,
)
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="What is made is kept here."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the result here after each ranker. Rankers in it already are not judged again.",
)
@json_option
def main(
    *, rankers: tuple[str, ...], steps: int, work: Path, out: Path | None, as_json: bool
) -> None:
    """Round rankers of the zoo with fine-tuning and without, and judge them."""
    command = f"python -m bench.validation.quantize_aware --work build/zoo --steps {steps}"
    result = earlier(out, {"kind": KIND, "schema": 1, "command": command}) | {
        "environment": environment().to_json()
    }
    found = result.setdefault("rankers", {})
    for name in rankers:
        if name not in found:
            checkpoint = str(trained(name, work))
            found[name] = round_and_judge(checkpoint, steps, work / f"{name}-aware")
            hand_over(result, out, as_json=False)
        for way, one in found[name]["ways"].items():
            click.echo(describe(name, way, one), err=as_json)
    hand_over(result, None, as_json=as_json)


if __name__ == "__main__":
    main()
