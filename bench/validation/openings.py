"""Targets measured in turn, each opened anew in several processes.

Where an artifact's memory happens to lie makes it a few per cent faster or slower for as long as it
is open, and no number of rounds in one process shows that. Rounds of several processes do.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.targets import Target
    from bench.workload import Workload
    from rankers.requests import Array

_DISTINCT = 100
_ROUNDS, _MOST_REQUESTS = 20, 600  # of each process
_WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Opened:
    """What to open.

    Attributes:
        name: What the result calls it.
        spec: As `bench.targets.open_target` takes it.
        threads: Of one call; by default one for each physical core. Programs of torch that are open
            in one process share the last one's.
    """

    name: str
    spec: str
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Rounds:
    """What was measured.

    Attributes:
        rounds: For each target, for each round of each process, latencies ``[count]`` in seconds.
        void: Why the measurement may be off, without repeats; empty if nothing was seen.
    """

    rounds: tuple[tuple[Array, ...], ...]
    void: tuple[str, ...]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the percentiles of each target over all its rounds, JSON-ready."""
        targets = {}
        for name, rounds in zip(names, self.rounds, strict=True):
            times_ms = np.concatenate(rounds) * 1e3
            p50_ms, p99_ms = np.quantile(times_ms, (0.5, 0.99))
            targets[name] = {
                "requests": len(times_ms),
                "p50_ms": float(p50_ms),
                "p99_ms": float(p99_ms),
            }
        return {"targets": targets, "disturbed": list(self.void)}


def measure_openings(
    targets: Sequence[Opened], requests_of: str, *, candidates: int, openings: int, seconds: float
) -> Rounds:
    """Measure targets in turn, in drawn order, opened anew in each of some processes.

    Args:
        targets: Each with a name of its own.
        requests_of: A ranker as `rankers.ranker.load_ranker` takes it; its evaluation requests are
            drawn from.
        candidates: Of every request, N.
        openings: How many processes, one after the other.
        seconds: That all of it may take about; slow targets take longer, for 20 rounds a process.
    """
    parts = []
    for number in range(openings):
        # A process of its own each time: what a library allocated is not used again.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            parts.append(
                pool.submit(
                    _measure, targets, requests_of, candidates, number, seconds / openings
                ).result()
            )
    rounds = [tuple(x for part in parts for x in part[0][place]) for place in range(len(targets))]
    void = dict.fromkeys(reason for part in parts for reason in part[1])
    return Rounds(tuple(rounds), tuple(void))


def _measure(
    targets: Sequence[Opened], requests_of: str, candidates: int, seed: int, seconds: float
) -> tuple[list[list[Array]], list[str]]:
    from bench.measure import Load, measure_rounds, round_seconds
    from bench.merging import merge_measurements
    from bench.targets import open_target
    from bench.workload import draw_workload
    from rankers.ranker import load_ranker

    log = load_ranker(requests_of).evaluation
    workload = draw_workload(log, candidates=candidates, distinct=_DISTINCT, seed=seed)
    opened = [_Named(open_target(each.spec, threads=each.threads), each.name) for each in targets]
    each_s = sum(_usual_seconds(target, workload) for target in opened)
    count = max(_ROUNDS, min(_MOST_REQUESTS, int(seconds / each_s)))
    load = Load(count=count, warmup=max(3, int(_WARMUP_SHARE * count)), seed=seed)
    parts = measure_rounds(opened, workload, load, rounds=_ROUNDS)
    void = [
        reason
        for each in map(merge_measurements, parts)
        for reason in each.void
        if "too few for a" not in reason
    ]
    return [[round_seconds(part) for part in each] for each in parts], void


class _Named:
    """A target by another name: one artifact may run twice."""

    instances = 1

    def __init__(self, target: Target, name: str) -> None:
        self.name = name
        self.prepare = target.prepare
        self.close = target.close
        self._target = target

    def __call__(self, prepared: Any) -> Array:
        return self._target(prepared)

    def describe(self) -> dict[str, Any]:
        return self._target.describe() | {"name": self.name}


def _usual_seconds(target: Target, workload: Workload) -> float:
    prepared = target.prepare(workload.requests[0])
    target(prepared)  # kernels are made on the first call
    took = []
    for _ in range(3):
        began = time.perf_counter()
        target(prepared)
        took.append(time.perf_counter() - began)
    return float(np.median(took))
