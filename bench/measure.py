"""Measuring: one target, or several in turn so that a noisy machine is unfair to none."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import arrivals
from bench.environment import cpu_times, environment, load_average
from bench.latencies import record
from bench.load import LoadResult, closed_loop, open_loop
from bench.measurement import Counts, Measurement, merge_measurements
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.targets import Target
    from bench.workload import Workload
    from rankers.requests import Array

# Beyond this many threads one process spends its time on switching between them.
_WORKERS_OF_A_SERVER = 64


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
    """

    count: int | None = 2000
    duration_s: float | None = None
    concurrency: int = 1
    rate_per_s: float | None = None
    pattern: arrivals.Pattern = "poisson"
    workers: int | None = None
    warmup: int = 100
    seed: int = 0

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
        if self.rate_per_s is None:
            return {"mode": "closed", "concurrency": self.concurrency, "warmup": self.warmup}
        return {
            "mode": "open",
            "pattern": self.pattern,
            "rate_per_s": self.rate_per_s,
            "workers": self.workers,
            "warmup": self.warmup,
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a target's percentile compares with the first target's.

    Attributes:
        target: Its name.
        baseline: The first target's name.
        quantile: Such as 0.99.
        value: The target's percentile ÷ the baseline's, over all rounds: below 1 is faster.
        low: The smallest ratio of a single round.
        high: The largest. Where low and high lie on both sides of 1, the rounds do not agree.
    """

    target: str
    baseline: str
    quantile: float
    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return the ratio as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Targets measured in turn: one measurement each, and ratios to the first."""

    measurements: tuple[Measurement, ...]
    ratios: tuple[Ratio, ...]

    def to_json(self) -> dict[str, Any]:
        """Return measurements and ratios as JSON-ready data."""
        return {
            "measurements": [each.to_json() for each in self.measurements],
            "ratios": [each.to_json() for each in self.ratios],
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
    return _measure_once(target, prepared, workload, load, command)


def measure_interleaved(
    targets: Sequence[Target],
    workload: Workload,
    load: Load,
    *,
    rounds: int = 5,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Measure targets in turn, round after round: A C B, B A C, ….

    What disturbs the machine for a minute then disturbs all of them. The order within a round is
    drawn anew each time, so that none always follows the same one.

    Args:
        targets: At least one. The first is what the others are compared with.
        workload: Sent to all.
        load: Of each round; its count or duration is divided by the rounds.
        rounds: How often each target has its turn.
        command: What reproduces the measurements.
        say: Is told of each turn before it begins. A live display would run beside the load and
            take its core: there is none.

    Raises:
        UserError: Two targets have the same name, there are no rounds, or a target does not score.
    """
    names = [target.name for target in targets]
    if not targets or len(set(names)) != len(names):
        raise UserError(f"targets {names} need to be at least one, each with a name of its own")
    if rounds < 1:
        raise UserError(f"{rounds} rounds were asked for; at least 1 is needed")
    prepared = [_prepare(target, workload) for target in targets]
    parts: list[list[Measurement]] = [[] for _ in targets]
    random = np.random.default_rng(load.seed)
    for number in range(rounds):
        turn = _one_round(load, number, rounds)
        for place in random.permutation(len(targets)):
            say(f"round {number + 1} of {rounds}: {names[place]}")
            parts[place].append(
                _measure_once(targets[place], prepared[place], workload, turn, command)
            )
    return Comparison(
        measurements=tuple(merge_measurements(each) for each in parts), ratios=_ratios(parts)
    )


def _one_round(load: Load, number: int, rounds: int) -> Load:
    return replace(
        load,
        count=None if load.count is None else -(-load.count // rounds),
        duration_s=None if load.duration_s is None else load.duration_s / rounds,
        seed=load.seed + number,
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
    target: Target, prepared: Sequence[Any], workload: Workload, load: Load, command: str
) -> Measurement:
    began, busy, before = dt.datetime.now(dt.UTC), load_average(), cpu_times()
    result = apply_load(load, target, prepared)
    after = cpu_times()
    candidates = int(workload.requests.candidates[result.index].sum())
    return Measurement(
        target=target.describe(),
        workload=workload.describe(),
        load=load.describe(),
        response=record(result.response_s),
        service=record(result.service_s),
        lag=record(result.lag_s),
        counts=Counts(result.ok, result.errors, result.dropped, result.late, candidates),
        error_messages=result.error_messages,
        duration_s=result.duration_s,
        environment=environment(),
        steal_share=before.steal_share(after) if before and after else None,
        load_average=busy,
        command=command,
        timestamp_utc=began.isoformat(timespec="seconds"),
    )


def apply_load(load: Load, target: Target, prepared: Sequence[Any]) -> LoadResult:
    """Send prepared requests to a target as a load says."""
    if load.rate_per_s is None:
        return closed_loop(
            target,
            prepared,
            concurrency=load.concurrency,
            count=load.count,
            duration_s=load.duration_s,
            warmup=load.warmup,
        )
    return open_loop(
        target,
        prepared,
        schedule_s=_schedule(load, load.rate_per_s),
        workers=load.workers or target.instances or _WORKERS_OF_A_SERVER,
        warmup=load.warmup,
    )


def _schedule(load: Load, rate_per_s: float) -> Array:
    """Draw the arrivals. A duration stands for the count it has at that rate on average."""
    count = load.count or max(1, round(rate_per_s * (load.duration_s or 0)))
    return arrivals.draw(load.pattern, rate_per_s, count=count, seed=load.seed)


def _ratios(parts: Sequence[Sequence[Measurement]]) -> tuple[Ratio, ...]:
    """Compare p50 and p99 of each target with the first's: over all rounds, and in each round.

    A ratio is left out where one side has too few samples for the percentile.
    """
    pooled = [merge_measurements(each) for each in parts]
    found = []
    for place in range(1, len(parts)):
        for quantile in (0.5, 0.99):
            ours, theirs = (pooled[each].response.percentile(quantile) for each in (place, 0))
            if ours is None or theirs is None:
                continue
            rounds = [
                own.response.point_us(quantile) / other.response.point_us(quantile)
                for own, other in zip(parts[place], parts[0], strict=True)
                if own.response.count and other.response.count
            ]
            found.append(
                Ratio(
                    target=pooled[place].name,
                    baseline=pooled[0].name,
                    quantile=quantile,
                    value=ours.value_us / theirs.value_us,
                    low=min(rounds),
                    high=max(rounds),
                )
            )
    return tuple(found)
