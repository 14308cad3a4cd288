"""Measuring: one target, or several in turn so that a noisy machine is unfair to none."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import arrivals, timeline
from bench.compare import Comparison, baseline_place, compare_rounds
from bench.environment import Clocks, cpu_times, environment, load_average
from bench.gpu_state import watched_gpus
from bench.latencies import record
from bench.load import still_memory
from bench.measurement import Counts, Measurement
from bench.merging import merge_measurements
from bench.sending import apply_load
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.load import LoadResult
    from bench.slo import Slo
    from bench.targets import Target
    from bench.workload import Workload
    from rankers.requests import Array

# Requests next in size on either side, that a first one of a size is compared with.
_ALIKE = 10
# How much further in the workload the next round begins where nobody knows how many it will send; a
# prime, so that the rounds come to begin everywhere.
_DURATION_STEP = 97


@dataclass(frozen=True, slots=True)
class Load:
    """How requests are sent: in a closed loop, unless there is a rate.

    Attributes:
        count: How many requests.
        duration_s: For how long, instead of a count.
        concurrency: Of the closed loop.
        rate_per_s: Of the open loop.
        pattern: Of its arrivals, as `bench.arrivals` reads it: ``poisson``, ``bursts:factor=8``, ….
        workers: Of the open loop; by default as many as the target works on at once, or 64 where
            it queues by itself.
        warmup: Requests before the clock starts.
        seed: Of the arrivals; round r takes ``seed + r``.
        first: The place of the first request in the workload: each round goes on where the last
            one ended, and all targets of a round get the same requests at the same arrivals.
        slo: The objective that the load is for: what the generator's own lag is held against.
    """

    count: int | None = 2000
    duration_s: float | None = None
    concurrency: int = 1
    rate_per_s: float | None = None
    pattern: arrivals.Pattern = "poisson"
    workers: int | None = None
    warmup: int = 100
    seed: int = 0
    first: int = 0
    slo: Slo | None = None

    def __post_init__(self) -> None:
        if (self.count is None) == (self.duration_s is None):
            raise UserError("give either a count of requests or a duration")
        amounts = (self.count, self.duration_s, self.concurrency, self.rate_per_s, self.workers)
        if any(amount is not None and amount <= 0 for amount in amounts) or self.warmup < 0:
            raise UserError(f"count, duration, concurrency, rate and workers are above 0: {self}")
        if self.rate_per_s is not None:
            arrivals.check_pattern(self.pattern)

    def describe(self) -> dict[str, Any]:
        """Return the settings that make a result, as JSON-ready data."""
        slo = {} if self.slo is None else {"slo": self.slo.to_json()}
        if self.rate_per_s is None:
            closed = {"mode": "closed", "concurrency": self.concurrency, "warmup": self.warmup}
            return closed | slo
        return slo | {
            "mode": "open",
            "pattern": self.pattern,
            "rate_per_s": self.rate_per_s,
            "workers": self.workers,
            "warmup": self.warmup,
        }


def measure(target: Target, workload: Workload, load: Load, *, command: str = "") -> Measurement:
    """Measure one target once.

    Args:
        target: What to call. It is called once before, and its scores looked at: nothing is timed
            that does not score.
        workload: What to send.
        load: How to send it.
        command: What reproduces the measurement.

    Raises:
        UserError: The target's scores are not one finite number for each candidate.
    """
    prepared = _prepare(target, workload)
    return _measure_once(target, prepared, workload, load, command, began_at=load.first)


def measure_interleaved(
    targets: Sequence[Target],
    workload: Workload,
    load: Load,
    *,
    rounds: int | None = None,
    baseline: str | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Measure targets in turn, round after round: A C B, B A C, ….

    What disturbs the machine for a minute then disturbs all of them. The order within a round is
    drawn anew each time: that is what `bench.compare` draws its intervals from.

    Args:
        targets: At least one.
        workload: Sent to all.
        load: Of each round; its count or duration is divided by the rounds.
        rounds: How often each target has its turn; by default once for every 50 requests, 10 to 100
            times: many short rounds tell more than a few long ones.
        baseline: The name of the target that the others are compared with; by default the first.
        command: What reproduces the measurements.
        say: Is told of each turn before it begins. A live display would run beside the load and
            take its core: there is none.

    Raises:
        UserError: Two targets have the same name, there are no rounds, or a target does not score.
    """
    names = [target.name for target in targets]
    compared_with = baseline_place(names, baseline)
    parts = measure_rounds(targets, workload, load, rounds=rounds, command=command, say=say)
    times = [[round_seconds(part) for part in each] for each in parts]
    return Comparison(
        measurements=tuple(merge_measurements(each) for each in parts),
        ratios=compare_rounds(times, names, baseline=compared_with),
    )


def measure_rounds(
    targets: Sequence[Target],
    workload: Workload,
    load: Load,
    *,
    rounds: int | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> list[list[Measurement]]:
    """Measure targets in turn, as `measure_interleaved` does, and keep the rounds apart.

    Returns:
        For each target the measurement of each round.

    Raises:
        UserError: As there.
    """
    names = [target.name for target in targets]
    if not targets or len(set(names)) != len(names):
        raise UserError(f"targets {names} need to be at least one, each with a name of its own")
    rounds = default_rounds(load) if rounds is None else rounds
    if rounds < 1:
        raise UserError(f"{rounds} rounds were asked for; at least 1 is needed")
    prepared = [_prepare(target, workload) for target in targets]
    parts: list[list[Measurement]] = [[] for _ in targets]
    random = np.random.default_rng(load.seed)
    with still_memory():
        for number in range(rounds):
            turn = _one_round(load, number, rounds)
            for place in random.permutation(len(targets)):
                say(f"round {number + 1} of {rounds}: {names[place]}")
                part = _measure_once(
                    targets[place], prepared[place], workload, turn, command, began_at=load.first
                )
                parts[place].append(replace(part, load=load.describe()))
    return parts


def default_rounds(load: Load) -> int:
    """Return how many turns of each target a load is divided into."""
    return 20 if load.count is None else min(100, max(10, load.count // 50))


def _one_round(load: Load, number: int, rounds: int) -> Load:
    """Divide the load. After the first round a turn only warms up what the others have cooled."""
    count = None if load.count is None else -(-load.count // rounds)
    again = load.warmup if count is None else min(load.warmup, -(-count // 10))
    return replace(
        load,
        count=count,
        duration_s=None if load.duration_s is None else load.duration_s / rounds,
        warmup=again if number else load.warmup,
        seed=load.seed + number,
        first=load.first + number * (_DURATION_STEP if count is None else count),
    )


def _prepare(target: Target, workload: Workload) -> list[Any]:
    """Prepare every request, and see that the target scores the first."""
    prepared = [target.prepare(request) for request in workload.requests]
    try:
        scores = np.asarray(target(prepared[0]))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"target {target.name!r} failed on the first request: {type(error).__name__}: {error}; "
            "are these requests for this target? Nothing was timed"
        ) from error
    expected = (workload.requests[0].candidates,)
    if scores.shape != expected or not np.isfinite(scores).all():
        raise UserError(
            f"target {target.name!r} gave scores of shape {scores.shape} for a request of "
            f"{expected[0]} candidates; expected {expected} finite numbers: nothing was timed"
        )
    return prepared


def _measure_once(
    target: Target,
    prepared: Sequence[Any],
    workload: Workload,
    load: Load,
    command: str,
    *,
    began_at: int,
) -> Measurement:
    began, busy, before = dt.datetime.now(dt.UTC), load_average(), cpu_times()
    clocks = Clocks.read()
    with watched_gpus(target.describe()["device"]) as watch:
        result = apply_load(load, target, prepared)
    drift_s = clocks.drift_s(Clocks.read())
    after = cpu_times()
    candidates = workload.requests.candidates[result.index]
    sizes = getattr(target, "wire_bytes", None)
    return Measurement(
        target=target.describe(),
        workload=workload.describe(),
        load=load.describe(),
        response=record(result.response_s),
        service=record(result.service_s),
        lag=record(result.lag_s),
        counts=Counts(result.ok, result.errors, result.dropped, result.late, int(candidates.sum())),
        error_messages=result.error_messages,
        duration_s=result.duration_s,
        environment=environment(),
        steal_share=before.steal_share(after) if before and after else None,
        load_average=busy,
        command=command,
        timestamp_utc=began.isoformat(timespec="seconds"),
        cpu_s=result.cpu_s,
        wire_bytes=None if sizes is None else int(sizes(workload.requests)[result.index].sum()),
        unwarmed=_unwarmed(result, candidates, workload, load, began_at),
        clock_drift_s=drift_s,
        timeline=timeline.record(result),
        gpu=watch.states,
    )


def _unwarmed(
    result: LoadResult, candidates: Array, workload: Workload, load: Load, began: int
) -> int:
    """Count requests that were the first of their size and took over three times as long as others.

    The others are those nearest in size: many candidates take longer than few, cold or not. The
    warm-up and earlier rounds sent those from before place ``began`` on.
    """
    if not result.ok:
        return 0
    sent_before = np.arange(began - load.warmup, load.first) % len(workload.requests)
    warmed = workload.requests.candidates[sent_before]
    sizes, firsts = np.unique(candidates, return_index=True)
    new = firsts[~np.isin(sizes, warmed)]
    by_size = np.argsort(candidates, kind="stable")
    service_s = result.service_s[by_size]
    ranks = np.argsort(by_size)[new]
    usual_s = [np.median(service_s[max(0, each - _ALIKE) : each + _ALIKE + 1]) for each in ranks]
    return int((service_s[ranks] > 3 * np.array(usual_s)).sum())


def round_seconds(part: Measurement) -> Array:
    """Return a round's response times, ``[ok]`` seconds."""
    microseconds, counts = part.response.distribution()
    return np.repeat(microseconds / 1e6, counts)
