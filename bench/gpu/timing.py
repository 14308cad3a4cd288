"""Times of calls on a device: by the wall clock, by the device's own events, and many at once."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.gpu.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# With fewer calls the 99th percentile's interval has no upper end (docs/load.md).
_LEAST_FOR_P99 = 473
_WARM_UPS = 5
_LEAST = 3  # of a call that takes longer than all of them may


@dataclass(frozen=True, slots=True)
class Times:
    """Of calls one after another.

    Attributes:
        count: How many.
        p50_us: Their median.
        p99_us: None where there were too few to tell.
        least_us: The shortest.
    """

    count: int
    p50_us: float
    p99_us: float | None
    least_us: float

    def to_json(self) -> dict[str, Any]:
        """Return the times as JSON-ready data."""
        return asdict(self)

    @classmethod
    def of(cls, microseconds: Sequence[float]) -> Times:
        """Return what a number of times come to."""
        ordered = np.sort(np.asarray(microseconds, dtype=np.float64))
        p99 = float(np.quantile(ordered, 0.99, method="higher"))
        return cls(
            count=len(ordered),
            p50_us=float(np.median(ordered)),
            p99_us=p99 if len(ordered) >= _LEAST_FOR_P99 else None,
            least_us=float(ordered[0]),
        )


def wall_times(calls: Sequence[Callable[[], object]], *, seconds: float, count: int) -> Times:
    """Time calls in turn, each done when it returns, until so many or so long.

    Args:
        calls: With different data each: one buffer over and over would be in the cache.
        seconds: At most about.
        count: At most.
    """
    until = time.perf_counter() + seconds
    for at in range(_WARM_UPS):
        calls[at % len(calls)]()
        if time.perf_counter() > until:
            break
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < count:
        call = calls[len(times) % len(calls)]
        began = time.perf_counter()
        call()
        ended = time.perf_counter()
        times.append((ended - began) * 1e6)
        if ended > until and len(times) >= _LEAST:
            break
    return Times.of(times)


def event_times(
    calls: Sequence[Callable[[], object]], device: str, *, seconds: float, count: int
) -> Times:
    """Time calls that leave their work on the device, by CUDA events around each.

    On the CPU, where a call is done when it returns, by the wall clock.
    """
    if device == "cpu":
        return wall_times(calls, seconds=seconds, count=count)
    import torch

    new: Any = torch.cuda.Event  # torch gives it no types
    for at in range(_WARM_UPS):
        calls[at % len(calls)]()
    wait_for(device)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < count:
        began, ended = (new(enable_timing=True) for _ in range(2))
        began.record()
        calls[len(times) % len(calls)]()
        ended.record()
        ended.synchronize()
        times.append(began.elapsed_time(ended) * 1000)
        if time.perf_counter() > until and len(times) >= _LEAST:
            break
    return Times.of(times)


def calls_per_second(
    calls: Sequence[Callable[[], object]], device: str, *, seconds: float
) -> float:
    """Return how many calls a second the device does when it never waits for the next one."""
    for at in range(_WARM_UPS):
        calls[at % len(calls)]()
    wait_for(device)
    done = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for call in calls:
            call()
        done += len(calls)
        if done % (16 * len(calls)) == 0:
            wait_for(device)  # no endless queue: what is in it could not be timed
    wait_for(device)
    return done / (time.perf_counter() - began)
