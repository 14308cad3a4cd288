"""The demo's variants: what they are measured with, and their quality beside it."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.demo_report import Variant

if TYPE_CHECKING:
    from rich.console import Console

    from bench.compare import Comparison
    from bench.measurement import Measurement
    from bench.targets import Target
    from optimize.artifact import Artifact
    from optimize.triton.embedded import RunningServer
    from rankers.ranker import Ranker
    from rankers.requests import Array

MODEL = "dlrm"
# Of the closed loop's throughput: busy, but far from the knee where the queue takes over.
_OPEN_LOOP_SHARE = 0.4
# As many as a comparison needs for an interval (bench.exchange).
_ROUNDS = 20


def measure_variants(
    ranker: Ranker,
    chosen: Artifact,
    rivals: dict[str, Artifact],
    server: RunningServer,
    *,
    requests: int,
    said: Console,
) -> tuple[Comparison, Measurement]:
    """Measure the variants in turn, then the served model under Poisson arrivals."""
    from bench.measure import Load, measure, measure_interleaved
    from bench.served import served_target
    from bench.targets import open_artifact_target, ranker_target
    from bench.workload import draw_workload

    workload = draw_workload(ranker.evaluation)
    said.print(f"    [dim]{_ROUNDS} rounds, the variants in an order drawn for each[/]")
    served = served_target(server.grpc_url, MODEL, name="Triton, gRPC")
    with ExitStack() as opened:
        targets: list[Target] = [
            ranker_target(ranker, name="torch eager"),
            open_artifact_target(chosen.folder, name="ONNX Runtime"),
            *(open_artifact_target(each.folder, name=name) for name, each in rivals.items()),
            served,
        ]
        for each in targets:
            opened.callback(each.close)
        comparison = measure_interleaved(
            targets,
            workload,
            # Every size of request once: some runtimes prepare themselves for each.
            Load(count=requests, warmup=len(workload.requests)),
            rounds=_ROUNDS,
            command="make demo",
        )
        rate = float(f"{_OPEN_LOOP_SHARE * comparison.measurements[-1].requests_per_s:.2g}")
        said.print(f"    [dim]open loop, {rate:g} requests/s[/]")
        load = Load(count=requests, rate_per_s=rate, warmup=20)
        loaded = dataclasses.replace(served, name=f"Triton, {rate:g} requests/s")
        under_load = measure(loaded, workload, load, command="make demo")
    return comparison, under_load


def judge_variants(
    ranker: Ranker,
    artifacts: dict[str, Artifact],
    comparison: Comparison,
    under_load: Measurement,
    served_scores: Array,
) -> tuple[Variant, ...]:
    """Put quality and latency of each variant side by side.

    Args:
        ranker: The original.
        artifacts: Those measured in process, by name, in the order of the comparison.
        comparison: The original, the artifacts, and last the served model.
        under_load: The served model in the open loop.
        served_scores: Of the evaluation requests, over the wire, ``[ΣN]``.
    """
    original, *in_process, over_grpc = comparison.measurements
    reference = ranker.score(ranker.evaluation.flat())
    auc, _ = _judge(ranker, reference, reference)
    sent = _judge(ranker, reference, served_scores)
    parameters = sum(each.nbytes for each in ranker.module.state_dict().values())
    return (
        Variant("torch eager", parameters, auc, None, original),
        *(
            _variant(name, artifact, measurement)
            for (name, artifact), measurement in zip(artifacts.items(), in_process, strict=True)
        ),
        Variant("Triton, gRPC", None, *sent, over_grpc),
        Variant(under_load.name, None, *sent, under_load),
    )


def _variant(name: str, artifact: Artifact, measurement: Measurement) -> Variant:
    """Return an artifact's line, with the quality that its gate found."""
    gated = next(each for each in artifact.manifest.verdicts if each.gate == "quality").numbers
    numbers = gated.get("auc")
    change = None if numbers is None else (numbers["delta"], numbers["low"], numbers["high"])
    auc = None if numbers is None else numbers["value"]
    return Variant(name, artifact.model_bytes, auc, change, measurement)


def _judge(
    ranker: Ranker, reference: Array, scores: Array
) -> tuple[float | None, tuple[float, float, float] | None]:
    """Return the AUC of scores, and its difference to the reference's with the interval.

    As the quality gate has it: what moved by rounding alone makes no difference.
    """
    from rankers.quality import quality, quality_difference
    from rankers.rounding import without_rounding

    evaluation, kind = ranker.evaluation, ranker.signature.score
    if evaluation.labels is None:
        return None, None
    judged = (evaluation.labels, evaluation.offsets, kind)
    moved = without_rounding(reference, scores, evaluation.offsets, kind)
    change = quality_difference(reference, moved, *judged).get("auc")
    found = None if change is None else (change.estimate, change.low, change.high)
    return quality(scores, *judged).auc, found
