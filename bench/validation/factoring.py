"""What rankers of the zoo lose by tables that are products of smaller ones.

Each ranker, trained with the defaults of ``python -m rankers train``, goes through the stage
``factor_tables`` with both methods at the same shares of its tables' bytes, and is judged on its
evaluation requests, which the stage never sees. How low rank weighs rows and directions is taken
apart beside it: by what requests read and what scores follow, by reads alone, and all alike.
Nothing is timed, so a busy machine gives the same.

    python -m bench.validation.factoring --work build/zoo --out FILE
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.environment import environment
from bench.validation.result import hand_over
from bench.validation.zoo_recipes import trained
from rankers.command_line import CommandLine, json_option
from rankers.zoo.catalogue import ZOO

if TYPE_CHECKING:
    from optimize.artifact import Artifact
    from optimize.tables.reads import TableReads
    from rankers.features import ScoreKind
    from rankers.requests import Array

KIND = "rankserve-validation-factoring"
METHODS = ("low_rank", "quotient_remainder")
WEIGHINGS = ("reads and slopes", "reads", "alike")
MIN_ROWS = 64


def judge(artifact: Artifact, options: dict[str, Any], store: Path) -> dict[str, Any]:
    """Take a captured ranker through the stage; return what became of it, JSON-ready.

    Losses are the divergence of clicks from the original's, on evaluation requests: before
    fine-tuning and after it. Those that the stage itself tells are of its held-out requests.
    """
    from optimize.build import run_stage
    from optimize.capture import load_evidence, score_batch
    from optimize.runtimes import open_predictor
    from optimize.stages.factor_tables import REPORT
    from rankers.quality import quality_difference

    evidence = load_evidence(artifact)
    batch, kind = evidence.evaluation, artifact.manifest.signature.score
    losses = []
    for each in (options | {"steps": 0}, options):
        made = run_stage("factor_tables", each, artifact, store, data=artifact)
        scores = score_batch(open_predictor(made), batch, made.manifest.columns_of)
        losses.append(_loss(scores, evidence.scores, kind))
    said = json.loads((made.folder / REPORT).read_text())
    assert batch.labels is not None  # noqa: S101 - a ranker's evaluation has labels
    changes = quality_difference(evidence.scores, scores, batch.labels, batch.offsets, kind)
    changed = [each for each in said["tables"] if not each["reason"]]
    return {
        "options": options,
        "tables": len(said["tables"]),
        "changed": len(changed),
        "bytes": [sum(x[f"bytes_{end}"] for x in said["tables"]) for end in ("before", "after")],
        "losses": losses,
        "estimated_loss": sum(x["score_error"] ** 2 for x in changed) / 2,
        "fine_tuning": [
            {x: each[x] for x in ("steps", "best_step", "loss_before", "loss_after")}
            for each in said["fine_tuning"]
        ],
        "changes": {
            metric: {"change": each.estimate, "interval": [each.low, each.high]}
            for metric, each in changes.items()
        },
    }


def weighed(artifact: Artifact, share: float) -> dict[str, float]:
    """Return the loss on evaluation requests of low rank, untrained, by how rows are weighed."""
    import torch

    from optimize.capture import load_calibration, load_evidence
    from optimize.tables.factor import factor_tables
    from optimize.tables.program import chosen_tables, open_tables
    from optimize.tables.reads import table_reads

    evidence, manifest = load_evidence(artifact), artifact.manifest
    calibration = load_calibration(artifact)
    assert calibration is not None  # noqa: S101 - the zoo's rankers have some
    found = {}
    for weighing in WEIGHINGS:
        graph, tables = open_tables(artifact)
        left = chosen_tables(tables, "*", MIN_ROWS)
        free = [each for each in tables if each.name not in left]
        reads = table_reads(graph, free, calibration, manifest)
        reads = {name: _weighed(each, weighing) for name, each in reads.items()}
        factor_tables(
            graph,
            tables,
            reads,
            left,
            method="low_rank",
            share=share,
            signature=manifest.signature,
        )
        parts: list[Array] = []
        for chunk in evidence.evaluation.chunks(8192):
            columns = manifest.columns_of(chunk)
            given = {name: torch.from_numpy(columns[name]) for name in manifest.inputs}
            parts.append(graph.score(given).numpy().reshape(-1))
        kind = manifest.signature.score
        found[weighing] = _loss(np.concatenate(parts), evidence.scores, kind)
    return found


def _loss(scores: Array, original: Array, kind: ScoreKind) -> float:
    """Return the divergence of scores from the original's, in nats a candidate."""
    import torch

    from optimize.finetuning.losses import divergence

    student, teacher = torch.from_numpy(scores), torch.from_numpy(original)
    return float(divergence(student, teacher, kind, scale=float(teacher.std(correction=0))))


def _weighed(reads: TableReads, weighing: str) -> TableReads:
    """Forget what scores follow, or what is read as well."""
    import torch

    if weighing == WEIGHINGS[0]:
        return reads
    size = float(reads.slopes.diagonal().mean()) if weighing == "reads" else 1.0
    alike = replace(reads, slopes=size * torch.eye(len(reads.slopes), dtype=torch.float64))
    if weighing == "reads":
        return alike
    return replace(alike, share=torch.full_like(reads.share, 1 / len(reads.share)))


def row(ranker: str, share: float, by_method: dict[str, Any], weighings: dict[str, float]) -> str:
    """Return a row of the table in docs/quantization.md.

    Args:
        ranker: Its name.
        share: Of the tables' bytes.
        by_method: What `judge` found.
        weighings: What `weighed` found.
    """
    told = [f"`{ranker}`", f"{share:g}", f"{weighings['alike']:.1e}"]
    for method in METHODS:
        auc = by_method[method]["changes"]["auc"]
        low, high = auc["interval"]
        before, after = by_method[method]["losses"]
        told += [
            f"{before:.1e}",
            f"{after:.1e}",
            f"{auc['change']:+.0e} ({low:+.0e} to {high:+.0e})",
        ]
    return f"| {' | '.join(told)} |".replace("e-0", "e-")


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option(
    "--ranker",
    "rankers",
    multiple=True,
    type=click.Choice([*ZOO]),
    default=("dlrm", "dcn_v2"),
    show_default=True,
)
@click.option("--share", "shares", multiple=True, type=float, default=(0.25,), show_default=True)
@click.option("--steps", type=click.IntRange(1), default=40, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="Rankers are kept here."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    *,
    rankers: tuple[str, ...],
    shares: tuple[float, ...],
    steps: int,
    work: Path,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make tables of zoo rankers products, and judge the rankers."""
    from optimize.capture import capture
    from rankers.ranker import load_ranker

    found: dict[str, Any] = {}
    for name in rankers:
        store = work / "factoring"
        captured = capture(load_ranker(str(trained(name, work))), store, candidates=[1])
        found[name] = {}
        for share in shares:
            common = {"share": share, "steps": steps, "min_rows": MIN_ROWS}
            by_method = {
                method: judge(captured, common | {"method": method}, store) for method in METHODS
            }
            weighings = weighed(captured, share)
            found[name][f"{share:g}"] = {"methods": by_method, "weighings": weighings}
            click.echo(row(name, share, by_method, weighings), err=as_json)
    result = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.factoring --work build/zoo --steps {steps}"
        + "".join(f" --ranker {name}" for name in rankers)
        + "".join(f" --share {share:g}" for share in shares),
        "environment": environment().to_json(),
        "rankers": found,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
