"""The main job, shown: a ranker is trained, optimized, gated, deployed, served and measured.

Every number it prints was measured in this run; ``results.json`` holds all of it.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from bench.demo_report import Demo, auc_text
from bench.demo_rivals import RIVALS, make_rivals
from bench.demo_variants import MODEL, judge_variants, measure_variants
from bench.html_report import html_report
from bench.results_file import load_results, save_results
from rankers.errors import UserError
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optimize.artifact import Artifact
    from optimize.run import Run
    from optimize.triton.embedded import RunningServer
    from rankers.ranker import Ranker
    from rankers.requests import Array


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
        rivals: Other runtimes that are measured as well, of `bench.demo_rivals.RIVALS`.
    """

    build: Path
    repository: Path
    data: Path | None = None
    rows: int = 400_000
    requests: int = 2000
    measured: int = 2000
    recipe: str = "cpu-fp32"
    rivals: tuple[str, ...] = tuple(RIVALS)


def run_demo(options: DemoOptions) -> Demo:
    """Do the main job and return what was found; ``results.json`` holds it whole.

    Raises:
        UserError: A step failed, a gate did not pass, or served scores are not those in process.
    """
    from optimize.recipe import load_recipe

    said = Console(stderr=True, highlight=False)
    started = time.perf_counter()
    with _step(said, "1 train a ranker"):
        checkpoint, ranker, best_auc = _train(options, said)
    with _step(said, f"2 optimize and gate: recipe {options.recipe}"):
        run = _optimize(checkpoint, options)
    chosen = run.chosen
    if chosen is None or not run.passed:
        raise UserError(f"the recipe {options.recipe!r} did not pass its gates; see {run.out}")
    with _step(said, "  the same for other runtimes"):
        rivals, missing = make_rivals(run, load_recipe(options.recipe), options.rivals)
        for line in (*(f"{name}: passed its gates" for name in rivals), *missing):
            said.print(f"    {line}", markup=False, soft_wrap=True)
    with _step(said, "3 deploy"):
        _deploy(chosen, options, said)
    with ExitStack() as stack:
        with _step(said, "4 serve with Triton"):
            server = _serve(stack, options, said)
        with _step(said, f"5 rank {options.requests} requests over gRPC"):
            served = _compare_scores(ranker, chosen, server, options, said)
        with _step(said, "6 measure, variants in turn"):
            comparison, under_load = measure_variants(
                ranker, chosen, rivals, server, requests=options.measured, said=said
            )
    about = {
        "ranker": ranker.name,
        "data": "synthetic" if options.data is None else options.data.name,
        "evaluation": {"requests": len(ranker.evaluation), "rows": ranker.evaluation.rows},
        "best_auc": best_auc,
        "run": run.to_json(),
        "not_measured": list(missing),
        "served": {
            "sent": served.sent,
            "distinct_requests": served.distinct,
            "different_scores": served.different,
        },
        "seconds": round(time.perf_counter() - started, 1),
    }
    variants = judge_variants(
        ranker, {"ONNX Runtime": chosen} | rivals, comparison, under_load, served.scores
    )
    demo = Demo(about, comparison, under_load, variants)
    _write(options.build, demo)
    return demo


def _write(build: Path, demo: Demo) -> None:
    """Write ``results.json``, ``report.html`` and last ``summary.json``."""
    save_results(demo, build / "results.json")
    page = html_report(
        f"rankserve demo: {demo.about['ranker']}", [load_results(build / "results.json")]
    )
    write_atomically(build / "report.html", page)
    write_atomically(build / "summary.json", json.dumps(demo.summary(), indent=2) + "\n")


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
    from optimize.checksums import fingerprint
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
    expected = [predictor(chosen.manifest.columns_of(request)) for request in evaluation]
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
