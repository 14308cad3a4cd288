"""A load's settings, sent: which loop, which schedule, from how many threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import arrivals
from bench.load import LoadResult, closed_loop, open_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Load
    from bench.targets import Target
    from rankers.requests import Array

# Beyond this many threads one process spends its time on switching between them.
_WORKERS_OF_A_SERVER = 64


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
            first=load.first,
        )
    return open_loop(
        target,
        prepared,
        schedule_s=_schedule(load, load.rate_per_s),
        workers=load.workers or target.instances or _WORKERS_OF_A_SERVER,
        warmup=load.warmup,
        first=load.first,
    )


def _schedule(load: Load, rate_per_s: float) -> Array:
    """Draw the arrivals. A duration stands for the count it has at that rate on average."""
    count = load.count or max(1, round(rate_per_s * (load.duration_s or 0)))
    return arrivals.draw(load.pattern, rate_per_s, count=count, seed=load.seed)
