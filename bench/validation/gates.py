"""``python -m bench.validation.gates``: whether gates stop what they should, and only that.

A small ranker is trained on a world whose clicks are known. Each repeat draws evaluation requests
of its own and plants changes: faults, which some gate must stop, and harmless ones, which none
should.
Changes that only round meet the limits of the recipe ``cpu-fp32``. Those that lose a little meet
limits that allow it, with the parity gate wide open, and so do the faults: the other gates must see
them. Whether ``cpu-fp32``'s parity gate would have seen a fault is counted besides.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.validation.planted import FAULTS, HIDDEN, LOSSLESS, LOSSY, Planting, scores_of
from bench.validation.result import hand_over
from bench.validation.small_world import SIGNATURE, World, train
from optimize.capture import Evidence
from optimize.gate_limits import (
    GateLimits,
    ParityLimits,
    QualityLimits,
    RankingLimits,
    SliceLimits,
)
from optimize.gates import judge_predictor, parity_verdict
from optimize.recipe import load_recipe
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from bench.validation.planted import Change
    from bench.validation.small_world import SmallRanker
    from optimize.runtimes import Predictor
    from optimize.verdicts import Verdict

KIND = "rankserve-validation-gates"
REQUESTS = 400
_OPEN = ParityLimits(max_abs=1.0, mean_abs=1.0, candidates=(1, 37))  # scores do move
LIMITS = {
    "lossless": load_recipe("cpu-fp32").gates,
    # What a stage of int8 tables or bfloat16 layers may cost.
    "lossy": GateLimits(
        _OPEN,
        QualityLimits(auc=1e-3, gauc=1e-3, ndcg_at_10=3e-3, logloss=1e-3, calibration_error=2e-3),
        RankingLimits(overlap=0.02, overlap_worst=0.12, kendall=0.01, kendall_worst=0.05),
        SliceLimits(factor=5),
    ),
    # What somebody may give for a much smaller model, if no slice loses more than the whole may.
    "loose": GateLimits(
        _OPEN,
        QualityLimits(auc=2e-2, gauc=2e-2, ndcg_at_10=4e-2, logloss=2e-2, calibration_error=2e-2),
        RankingLimits(overlap=0.1, overlap_worst=0.5, kendall=0.06, kendall_worst=0.3),
        SliceLimits(factor=1),
    ),
}


class Bench:
    """The trained ranker, and changes judged on requests drawn for each repeat."""

    def __init__(self) -> None:
        self._world = World()
        self._module: SmallRanker = train(self._world)

    def count(
        self, name: str, change: Change, limits_name: str, *, repeats: int, seed: int
    ) -> dict[str, Any]:
        """Plant a change again and again; count what stopped it.

        Args:
            name: Of the change.
            change: What makes the changed ranker.
            limits_name: Of `LIMITS`.
            repeats: How many times, each with requests and a place of its own.
            seed: Of all draws.
        """
        limits = LIMITS[limits_name]
        outcomes: dict[str, Counter[str]] = {}
        stopped, failed, strict_parity, slices = 0, 0, 0, Counter[str]()
        for repeat in range(repeats):
            evidence = self._evidence(seed + repeat, limits.parity.candidates)
            random = np.random.default_rng([2, seed, repeat, *name.encode()])
            planting = Planting(self._module, random, evidence.evaluation.flat())
            predictor = change(planting)
            verdicts = _judge(predictor, evidence, limits)
            scores = predictor(evidence.evaluation.flat())
            strict = parity_verdict(predictor, scores, evidence, LIMITS["lossless"].parity)
            strict_parity += not strict.passed
            stopped += not all(each.passed for each in verdicts)
            failed += any(each.outcome == "failed" for each in verdicts)
            for each in verdicts:
                outcomes.setdefault(each.gate, Counter())[each.outcome] += 1
                if each.gate == "slices":
                    slices.update(_failed_slices(each))
        return {
            "change": name,
            "limits": limits_name,
            "repeats": repeats,
            "stopped": stopped,
            "failed": failed,
            "stopped_by_strict_parity": strict_parity,
            "gates": {gate: dict(sorted(found.items())) for gate, found in outcomes.items()},
            "failed_slices": dict(slices.most_common()),
        }

    def _evidence(self, seed: int, candidates: tuple[int, ...]) -> Evidence:
        evaluation = self._world.draw(REQUESTS, seed)
        score = scores_of(self._module)
        probes = {}
        for count in candidates:
            drawn = self._world.draw(1 + count, seed + 500_000)  # of 5 candidates or more each
            request = drawn[0]
            items = {name: column[:count] for name, column in drawn.items.items()}
            request = type(request)(request.user, items)
            probes[count] = (request, score(request.flat()))
        return Evidence(evaluation, score(evaluation.flat()), probes)


def _judge(predictor: Predictor, evidence: Evidence, limits: GateLimits) -> tuple[Verdict, ...]:
    return judge_predictor(
        predictor,
        evidence,
        SIGNATURE,
        limits.parity,
        limits.quality,
        ranking=limits.ranking,
        slices=limits.slices,
    )


def _failed_slices(verdict: Verdict) -> set[str]:
    """Return the kinds of slices that failed: their names without numbers."""
    return {
        name.partition("<")[0].partition(">")[0]
        for name, numbers in verdict.numbers["slices"].items()
        if any(isinstance(x, dict) and x["outcome"] == "failed" for x in numbers.values())
    }


def plan() -> list[tuple[str, Change, str]]:
    """Return every change with the limits that it meets."""
    return [
        *((name, FAULTS[name], "loose" if name in HIDDEN else "lossy") for name in FAULTS),
        *((name, change, "lossless") for name, change in LOSSLESS.items()),
        *((name, change, "lossy") for name, change in LOSSY.items()),
    ]


def count_one(name: str, repeats: int, seed: int) -> dict[str, Any]:
    """Count one change's verdicts, in a process of its own."""
    import torch

    torch.set_num_threads(1)
    change, limits = next((change, limits) for each, change, limits in plan() if each == name)
    found = Bench().count(name, change, limits, repeats=repeats, seed=seed)
    return found | {"fault": name in FAULTS}


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--repeats", type=int, default=200, show_default=True, help="Of each change.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all draws.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(repeats: int, seed: int, out: Path | None, as_json: bool) -> None:
    """Count which planted changes the gates stop, and which gates do."""
    checks = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        counted = [pool.submit(count_one, name, repeats, seed) for name, _, _ in plan()]
        for each in counted:
            checks.append(each.result())
            click.echo(table_row(checks[-1]), err=as_json)
    result = summary(checks, repeats=repeats, seed=seed)
    hand_over(result, out, as_json=as_json)


def summary(checks: list[dict[str, Any]], *, repeats: int, seed: int) -> dict[str, Any]:
    """Return the result of all changes as JSON-ready data; the same seed gives the same."""
    return {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.gates --repeats {repeats} --seed {seed}",
        "requests": REQUESTS,
        "limits": {name: each.to_json() for name, each in LIMITS.items()},
        "checks": checks,
    }


def table_row(check: dict[str, Any]) -> str:
    """Return a change's counts as a row of the table in docs/gates.md."""
    failed = [
        str(check["gates"][gate].get("failed", 0)) if gate in check["gates"] else "-"
        for gate in ("quality", "ranking", "slices")
    ]
    stopped = f"{check['stopped']} of {check['repeats']}"
    return f"| {' | '.join([check['change'], check['limits'], stopped, *failed])} |"


if __name__ == "__main__":
    main()
