"""``python -m bench.validation.rewrite_worth``: what each of the user-once rewrites is worth.

Each ranker of bench/user_once_rankers.py is built flat, with all rewrites, and with all but one,
for every rewrite that did something. All run in ONNX Runtime in this process, in turn and in drawn
order, one request at a time. A rewrite is worth how much slower its ranker is without it.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.environment import environment, load_average
from bench.validation.result import hand_over
from rankers.command_line import CommandLine, json_option
from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.artifact import Artifact
    from rankers.requests import Array

KIND = "rankserve-validation-rewrite-worth"
RANKERS = ("history", "din", "dlrm")
FLAT, ALL = "flat", "all rewrites"
_IN_A_ROW = 5


def variants(ranker: str, candidates: int, store: Path) -> dict[str, Callable[[], Array]]:
    """Build a ranker in all its forms; return a call of each for the same request."""
    from bench import user_once_rankers
    from optimize.build import run_stage
    from optimize.capture import capture
    from optimize.runtimes import open_predictor
    from optimize.stages.user_once import REPORT

    made = getattr(user_once_rankers, ranker)()
    captured = capture(made, store, candidates=[1, candidates])

    def exported(program: Artifact) -> Artifact:
        graph = run_stage("export_onnx", {}, program, store)
        return run_stage("optimize_onnx", {}, graph, store)

    def rewritten(leave_out: str) -> Artifact:
        options = {"when": "always", "leave_out": leave_out}
        return run_stage("user_once", options, captured, store)

    whole = rewritten("")
    programs = {FLAT: captured, ALL: whole}
    for name in json.loads((whole.folder / REPORT).read_text())["rewrites"]:
        programs[f"without {name}"] = rewritten(name)
    batch = made.evaluation
    rows = np.random.default_rng(0).integers(batch.rows, size=candidates)
    request = RankingRequest(
        user={name: column[:1] for name, column in batch.user.items()},
        items={name: column[rows] for name, column in batch.items.items()},
    )

    def call(program: Artifact) -> Callable[[], Array]:
        artifact = exported(program)
        predictor, columns = open_predictor(artifact), artifact.manifest.columns_of(request)
        return lambda: predictor(columns)

    return {name: call(program) for name, program in programs.items()}


def measure(calls: dict[str, Callable[[], Array]], rounds: int, seed: int = 0) -> list[Any]:
    """Call each ``rounds`` times 5 in a row; return the p50 of each and its ratio to all's."""
    order = random.Random(seed)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in order.sample(list(calls), len(calls)):
            for _ in range(_IN_A_ROW):
                began = time.perf_counter()
                calls[name]()
                if number:  # the first round warms up
                    taken[name].append(time.perf_counter() - began)
    by_round = {name: np.median(np.reshape(x, (rounds, -1)), axis=1) for name, x in taken.items()}
    found = []
    for name, medians in by_round.items():
        low, middle, high = np.quantile(medians / by_round[ALL], (0.25, 0.5, 0.75))
        found.append(
            {
                "form": name,
                "calls": len(taken[name]),
                "p50_us": float(np.median(taken[name])) * 1e6,
                "ratio": float(middle),
                "ratio_quartiles": [float(low), float(high)],
            }
        )
    return found


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--rounds", type=click.IntRange(1), default=100, show_default=True)
@click.option("--candidates", type=click.IntRange(1), default=200, show_default=True)
@click.option("--ranker", "rankers", multiple=True, type=click.Choice(RANKERS), default=RANKERS)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    rounds: int, candidates: int, rankers: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    """Measure the rankers with all rewrites, and without one after the other."""
    busy, found = load_average(), {}
    for ranker in rankers:
        with TemporaryDirectory() as store:
            found[ranker] = measure(variants(ranker, candidates, Path(store)), rounds)
        for each in found[ranker]:
            low, high = each["ratio_quartiles"]
            click.echo(
                f"{ranker:8} {each['form']:28} p50 {each['p50_us']:8.0f} us, "
                f"{each['ratio']:.2f} times (middle half {low:.2f} to {high:.2f})",
                err=as_json,
            )
    result = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.rewrite_worth --rounds {rounds} "
        f"--candidates {candidates}",
        "environment": environment().to_json(),
        "load_average": busy,
        "rankers": found,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
