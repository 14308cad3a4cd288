"""The main job, shown: a ranker is trained, optimized, gated, deployed, served and measured.

Every number it prints was measured in this run; ``summary.json`` holds the same.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from bench.demo_report import Variant, auc_text, write_demo
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.compare import Comparison
    from bench.measurement import Measurement
    from bench.targets import Target
    from optimize.artifact import Artifact
    from optimize.pipeline import Run
    from optimize.triton.embedded import RunningServer
    from rankers.ranker import Ranker
    from rankers.requests import Array

MODEL = "dlrm"
# Of the closed loop's throughput: busy, but far from the knee where the queue takes over.
_OPEN_LOOP_SHARE = 0.4
# As many as a comparison needs for an interval (bench.exchange).
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo does.

    Attributes:
        build: The folder of everything it makes but the deployed model.
        repository: Triton's model repository.
        data: A Criteo file, in place of the synthetic log.
        rows: Of the synthetic log.
        requests: Sent through the client and compared with in-process scores.
        measured: Requests that each variant is measured with.
        recipe: The recipe's name.
    """

    build: Path
    repository: Path
    data: Path | None = None
    rows: int = 400_000
    requests: int = 2000
    measured: int = 2000
    recipe: str = "cpu-fp32"


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """Do the main job and return what ``summary.json`` holds.

    Raises:
        UserError: A step failed, a gate did not pass, or served scores are not those in process.
    """
    said = Console(stderr=True, highlight=False)
    started = time.perf_counter()
    with _step(said, "1 train a ranker"):
        checkpoint, ranker, best_auc = _train(options, said)
    with _step(said, f"2 optimize and gate: recipe {options.recipe}"):
        run = _optimize(checkpoint, options)
    chosen = run.chosen
    if chosen is None or not run.passed:
        raise UserError(f"the recipe {options.recipe!r} did not pass its gates; see {run.out}")
    with _step(said, "3 deploy"):
        _deploy(chosen, options, said)
    with ExitStack() as stack:
        with _step(said, "4 serve with Triton"):
            server = _serve(stack, options, said)
        with _step(said, f"5 rank {options.requests} requests over gRPC"):
            served = _compare_scores(ranker, chosen, server, options, said)
        with _step(said, "6 measure, variants in turn"):
            comparison, under_load = _measure(ranker, chosen, server, options, said)
    variants = _variants(ranker, chosen, comparison, under_load, served)
    summary = {
        "ranker": ranker.name,
        "data": "synthetic" if options.data is None else options.data.name,
        "evaluation": {"requests": len(ranker.evaluation), "rows": ranker.evaluation.rows},
        "best_auc": best_auc,
        "run": run.to_json(),
        "served": {
            "sent": served.sent,
            "distinct_requests": served.distinct,
            "different_scores": served.different,
        },
        "variants": [each.to_json() for each in variants],
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_demo(options.build, summary, [*comparison.measurements, under_load], comparison)
    return summary


@dataclass(frozen=True, slots=True)
class _Served:
    """What went over the wire and how it compared.

    Attributes:
        sent: Requests.
        distinct: Different ones among them.
        different: Scores that were not bitwise those in process.
        scores: Of the evaluation requests in order, ``[ΣN]``.
    """

    sent: int
    distinct: int
    different: int
    scores: Array


class _step:  # noqa: N801 - reads as a verb in `with`
    """Prints a step's name when it begins and how long it took."""

    def __init__(self, said: Console, name: str) -> None:
        self._said = said
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        self._said.print(f"[bold]{self._name}[/]")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._said.print(f"    [dim]{time.perf_counter() - self._started:.1f} s[/]")


def _train(options: DemoOptions, said: Console) -> tuple[Path, Ranker, float | None]:
    """Train, unless the same was trained before."""
    from optimize.artifact import fingerprint
    from rankers.checkpoint import describe_checkpoint, load_checkpoint, save_checkpoint
    from rankers.data.source import SYNTHETIC, data_key, read_log
    from rankers.training import TrainingOptions
    from rankers.zoo import code_key, train_zoo

    data = SYNTHETIC if options.data is None else str(options.data)
    rows = options.rows if options.data is None else None
    recipe = {"data": data_key(data), "rows": rows, "code": code_key(MODEL)}
    folder = options.build / "rankers" / f"{MODEL}-{fingerprint(recipe)[:12]}"
    if folder.is_dir():
        said.print("    from the cache")
    else:
        ranker, arguments, training = train_zoo(MODEL, read_log(data, rows=rows), TrainingOptions())
        save_checkpoint(folder, ranker, arguments, training.to_json())
    report = describe_checkpoint(folder)["training"]
    line = f"{folder}: held-out AUC {auc_text(report['quality']['auc'])}"
    if report["closed"] is not None:
        line += f", {report['closed']:.0%} of the way from 0.5 to the best reachable"
    said.print(f"    {line}", soft_wrap=True)
    return folder, load_checkpoint(folder), report["best_auc"]


def _optimize(checkpoint: Path, options: DemoOptions) -> Run:
    from optimize.children import default_limits
    from optimize.pipeline import run_recipe
    from optimize.recipe import load_recipe
    from optimize.report import TerminalObserver

    observer = TerminalObserver()
    try:
        return run_recipe(
            str(checkpoint),
            load_recipe(options.recipe),
            options.build / "run",
            limits=default_limits(),
            observer=observer,
        )
    finally:
        observer.stop()


def _deploy(chosen: Artifact, options: DemoOptions, said: Console) -> None:
    from optimize.triton.repository import deploy

    deployed = deploy(chosen, options.repository, MODEL)
    said.print(f"    {deployed.folder} (version {deployed.version})")


def _serve(stack: ExitStack, options: DemoOptions, said: Console) -> RunningServer:
    from optimize.triton.embedded import serve

    server = stack.enter_context(
        serve(
            options.repository,
            grpc_port=0,
            http_port=0,
            metrics_port=0,
            log_file=options.build / "triton.log",
            progress=lambda line: said.print(f"    {line}"),
        )
    )
    if MODEL not in server.models:
        raise UserError(f"model {MODEL!r} will not load: {server.failed[MODEL]}")
    said.print(f"    READY at {server.grpc_url}, log {options.build / 'triton.log'}")
    return server


def _compare_scores(
    ranker: Ranker,
    chosen: Artifact,
    server: RunningServer,
    options: DemoOptions,
    said: Console,
) -> _Served:
    """Send every evaluation request, and go on from the start until enough were sent.

    Raises:
        UserError: A served score is not bitwise the one in process.
    """
    from client import RankerClient
    from optimize.runtimes import open_predictor

    predictor = open_predictor(chosen, threads=1)  # as many as an instance of the server has
    evaluation = ranker.evaluation
    expected = [predictor(request.flat()) for request in evaluation]
    total = max(options.requests, len(evaluation))
    different = 0
    scores: list[Array] = []
    with RankerClient(server.grpc_url, MODEL, timeout_s=10.0) as client:
        for number in _progress(total, said):
            index = number % len(evaluation)
            answer = client.rank(evaluation[index])
            different += int(np.count_nonzero(answer != expected[index]))
            if number < len(evaluation):
                scores.append(answer)
        best, _ = client.top_k(evaluation[0], 3)
    if different:
        raise UserError(f"{different} served scores are not those in process: this is a defect")
    rows = sum(len(each) for each in scores)
    said.print(f"    {total} requests answered; all {rows:,} different rows score as in process")
    said.print(f"    the first user's best 3 of {evaluation[0].candidates}: {best.tolist()}")
    return _Served(total, len(evaluation), different, np.concatenate(scores))


def _progress(total: int, said: Console) -> Iterator[int]:
    """Count with a bar where there is a terminal."""
    from rich.progress import track

    if said.is_terminal:
        yield from track(range(total), description="   ", console=said, transient=True)
    else:
        yield from range(total)


def _measure(
    ranker: Ranker,
    chosen: Artifact,
    server: RunningServer,
    options: DemoOptions,
    said: Console,
) -> tuple[Comparison, Measurement]:
    """Measure the variants in turn, then the served model under Poisson arrivals."""
    from bench.measure import Load, measure, measure_interleaved
    from bench.served import served_target
    from bench.targets import open_artifact_target, ranker_target
    from bench.workload import draw_workload

    workload = draw_workload(ranker.evaluation)
    said.print(f"    [dim]{_ROUNDS} rounds, the three variants in an order drawn for each[/]")
    served = served_target(server.grpc_url, MODEL, name="Triton, gRPC")
    with ExitStack() as opened:
        targets: list[Target] = [
            ranker_target(ranker, name="torch eager"),
            open_artifact_target(chosen.folder, name="ONNX Runtime"),
            served,
        ]
        for each in targets:
            opened.callback(each.close)
        comparison = measure_interleaved(
            targets,
            workload,
            Load(count=options.measured, warmup=20),
            rounds=_ROUNDS,
            command="make demo",
        )
        rate = float(f"{_OPEN_LOOP_SHARE * comparison.measurements[-1].requests_per_s:.2g}")
        said.print(f"    [dim]open loop, {rate:g} requests/s[/]")
        load = Load(count=options.measured, rate_per_s=rate, warmup=20)
        loaded = dataclasses.replace(served, name=f"Triton, {rate:g} requests/s")
        under_load = measure(loaded, workload, load, command="make demo")
    return comparison, under_load


def _variants(
    ranker: Ranker,
    chosen: Artifact,
    comparison: Comparison,
    under_load: Measurement,
    served: _Served,
) -> list[Variant]:
    """Put quality and latency of each variant side by side."""
    original, optimized, over_grpc = comparison.measurements
    reference = ranker.score(ranker.evaluation.flat())
    auc, _ = _judge(ranker, reference, reference)
    gated = next(each for each in chosen.manifest.verdicts if each.gate == "quality").numbers
    numbers = gated.get("auc")
    change = None if numbers is None else (numbers["delta"], numbers["low"], numbers["high"])
    sent = _judge(ranker, reference, served.scores)
    parameters = sum(each.nbytes for each in ranker.module.state_dict().values())
    return [
        Variant("torch eager", parameters, auc, None, original),
        Variant(
            "ONNX Runtime",
            chosen.model_bytes,
            None if numbers is None else numbers["value"],
            change,
            optimized,
        ),
        Variant("Triton, gRPC", None, *sent, over_grpc),
        Variant(under_load.name, None, *sent, under_load),
    ]


def _judge(
    ranker: Ranker, reference: Array, scores: Array
) -> tuple[float | None, tuple[float, float, float] | None]:
    """Return the AUC of scores, and its difference to the reference's with the interval."""
    from rankers.quality import quality, quality_difference

    evaluation, kind = ranker.evaluation, ranker.signature.score
    if evaluation.labels is None:
        return None, None
    judged = (evaluation.labels, evaluation.offsets, kind)
    change = quality_difference(reference, scores, *judged).get("auc")
    found = None if change is None else (change.estimate, change.low, change.high)
    return quality(scores, *judged).auc, found
