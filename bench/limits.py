"""What the generator itself can do: its limits, against targets that cost next to nothing.

A latency below the generator's lag, or a rate above its limit, is the generator's own. On a machine
that others use too, both are theirs in part: rates are therefore also stated per second of CPU time
that this process spent, and lag also of those arrivals for which the kernel let it run.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrivals import poisson
from bench.environment import Environment, environment, load_average
from bench.latencies import sample_floor
from bench.load import LoadResult, closed_loop, open_loop
from bench.null_server import null_server
from bench.tables import number_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rankers.requests import Array

KIND = "rankserve-limits"
SCHEMA = 2
_CANDIDATES = 100
_REQUEST_BYTES = 4096  # about a request of 100 candidates with 5 IDs each
_CONCURRENCIES = (1, 4)
_WORKERS = 32
_TARGET_S = 0.001
_LAG_RATE_PER_S = 200.0
OPEN_RATE_PER_S = 2500.0
# The generator wakes 200 µs ahead; a shorter wait for a core is its own to bear.
_HELD_UP_S = 0.000_1
_SCHEDULER = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimit:
    """Requests over gRPC to a server in a process of its own that answers at once.

    Attributes:
        asked_per_s: Poisson arrivals of an open loop; None for a closed loop.
        concurrency: Of the closed loop, or the open loop's workers.
        per_s: Requests that were answered.
        per_core_s: The same per second of CPU time of this process.
        cores: CPU time of this process per second.
        server_cores: CPU time of the server per second.
        late_share: Of an open loop's arrivals, those that found every worker busy.
    """

    asked_per_s: float | None
    concurrency: int
    per_s: float
    per_core_s: float
    cores: float
    server_cores: float
    late_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LagLimit:
    """How late requests are sent, at 200 Poisson arrivals/s to a target of 1 ms in process.

    Attributes:
        p50_us: Of all arrivals that the target was free for.
        p99_us: The same.
        added_p99_us: The 99th percentile of what was measured of such a request beyond what the
            target itself took.
        held_up_share: Of them, those before which the kernel let this thread wait for a core for
            over 100 µs in all; None where the kernel does not say.
        own_p99_us: As ``p99_us``, of the others; None if nobody knows, or they are too few for a
            p99.
        own_added_p99_us: As ``added_p99_us``, of the others.
    """

    p50_us: float
    p99_us: float
    added_p99_us: float
    held_up_share: float | None
    own_p99_us: float | None
    own_added_p99_us: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this machine's generator reached.

    Attributes:
        in_process_per_s: Closed loop on a function that does nothing: requests/s of one core.
        grpc_closed: The best of a few concurrencies.
        grpc_open: At `OPEN_RATE_PER_S` arrivals per second.
        lag: Its own lag.
        environment: The machine.
        load_average: Of the last minute before: with others at work, limits are not the machine's.
        scheduler: What the kernel's scheduler takes this process for, such as ``SCHED_FIFO 50``.
        command: What reproduces them.
    """

    in_process_per_s: float
    grpc_closed: GrpcLimit
    grpc_open: GrpcLimit
    lag: LagLimit
    environment: Environment
    load_average: float
    scheduler: str
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the limits as JSON-ready data."""
        data = {"kind": KIND, "schema": SCHEMA} | asdict(self)
        return data | {"environment": self.environment.to_json()}


def find_limits(*, seconds: float = 3.0, command: str = "") -> Limits:
    """Measure the generator's limits: about ``5 * seconds`` in all.

    Args:
        seconds: For each part.
        command: What reproduces them.
    """
    busy = load_average()
    free = closed_loop(_nothing, [0], concurrency=1, duration_s=seconds)
    closed, opened = _over_grpc(seconds)
    return Limits(
        in_process_per_s=free.ok / free.duration_s,
        grpc_closed=closed,
        grpc_open=opened,
        lag=_lag(seconds),
        environment=environment(),
        load_average=busy,
        scheduler=_scheduler(),
        command=command,
    )


def limits_text(found: Limits) -> str:
    """Return the limits as a few lines."""
    closed, opened, lag = found.grpc_closed, found.grpc_open, found.lag
    lines = {
        "in process": f"{number_text(found.in_process_per_s)} requests/s",
        f"gRPC, {closed.concurrency} at once": _grpc_text(closed),
        f"gRPC, open at {OPEN_RATE_PER_S:,.0f}/s": (
            f"{_grpc_text(opened)}, {opened.late_share:.1%} sent late"
        ),
        f"lag at {_LAG_RATE_PER_S:.0f}/s": f"p50 {lag.p50_us:.0f} µs, p99 {lag.p99_us:.0f} µs",
        "added to a 1 ms p99": f"{lag.added_p99_us:.0f} µs",
    }
    if lag.held_up_share is not None:
        own = "unknown" if lag.own_added_p99_us is None else f"{lag.own_added_p99_us:.0f} µs"
        lines["the generator's part"] = (
            f"{own}, without the {lag.held_up_share:.1%} of requests that waited for a core"
        )
    cores = found.environment.usable_cores
    lines["load average before"] = f"{found.load_average:.2f} on {cores} cores"
    lines["scheduled as"] = found.scheduler
    return "\n".join(f"{name:22}{value}" for name, value in lines.items())


def _grpc_text(found: GrpcLimit) -> str:
    return (
        f"{number_text(found.per_s)} requests/s, {number_text(found.per_core_s)} for each second "
        f"of CPU time ({found.cores:.2f} cores, server {found.server_cores:.2f})"
    )


def _scheduler() -> str:
    names = ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_IDLE")
    policy = os.sched_getscheduler(0)
    name = next((each for each in names if getattr(os, each) == policy), str(policy))
    priority = os.sched_getparam(0).sched_priority
    return f"{name} {priority}" if priority else f"{name}, nice {os.nice(0)}"


def _nothing(_: object) -> None:
    """Cost next to nothing."""


def _lag(seconds: float) -> LagLimit:
    """Measure lag, and what the generator adds to a request, apart for those it was held up at."""
    took: list[float] = []
    waited: list[float] = []

    def one_millisecond(_: object) -> None:
        began = time.perf_counter()
        waited.append(_waited_for_core_s())
        while (spent := time.perf_counter() - began) < _TARGET_S:
            pass
        took.append(spent)

    count = max(400, round(_LAG_RATE_PER_S * seconds))
    schedule = poisson(_LAG_RATE_PER_S, count=count, seed=0)
    # One worker: two that poll in Python would hold each other's lock.
    result = open_loop(one_millisecond, [0], schedule_s=schedule, workers=1)
    # Late arrivals waited for the target, which is not the generator's doing: leave them out.
    own = ~_found_target_busy(result)
    lags = (result.started_s - result.intended_s)[own] * 1e6
    added = (result.response_s - np.array(took))[own] * 1e6
    free = np.diff(waited, prepend=waited[0])[own] <= _HELD_UP_S
    enough = not np.isnan(waited[0]) and free.sum() >= sample_floor(0.99)
    return LagLimit(
        p50_us=float(np.percentile(lags, 50)),
        p99_us=float(np.percentile(lags, 99)),
        added_p99_us=float(np.percentile(added, 99)),
        held_up_share=None if np.isnan(waited[0]) else float(1 - free.mean()),
        own_p99_us=float(np.percentile(lags[free], 99)) if enough else None,
        own_added_p99_us=float(np.percentile(added[free], 99)) if enough else None,
    )


def _waited_for_core_s() -> float:
    """Return how long this thread was ready to run but did not, so far; NaN if nobody knows."""
    try:
        return int(_SCHEDULER.read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return float("nan")


def _found_target_busy(result: LoadResult) -> Array:
    """Whether the request before was still under way when each was due, bool ``[ok]``."""
    before = np.concatenate([[-np.inf], result.finished_s[:-1]])
    busy: Array = before > result.intended_s
    return busy


def _over_grpc(seconds: float) -> tuple[GrpcLimit, GrpcLimit]:
    """Send as ``prebuilt://`` targets do: serialized requests, answers read as scores."""
    import grpc
    import psutil
    from tritonclient.grpc import service_pb2

    from bench.transports import infer_bytes

    scores = np.zeros(_CANDIDATES, np.float32).tobytes()
    answer = service_pb2.ModelInferResponse(model_name="null", raw_output_contents=[scores])
    with null_server(answer.SerializeToString()) as (address, process):
        server = psutil.Process(process.pid)
        with grpc.insecure_channel(address) as channel:
            infer = infer_bytes(channel)

            def call(body: bytes) -> Array:
                return np.frombuffer(infer(body, timeout=5.0).raw_output_contents[0], np.float32)

            send = partial(_measure_grpc, server=server, call=call)
            closed = [
                send(partial(closed_loop, concurrency=each, duration_s=seconds), concurrency=each)
                for each in _CONCURRENCIES
            ]
            schedule = poisson(OPEN_RATE_PER_S, count=round(OPEN_RATE_PER_S * seconds), seed=0)
            opened = send(
                partial(open_loop, schedule_s=schedule, workers=_WORKERS),
                concurrency=_WORKERS,
                asked_per_s=OPEN_RATE_PER_S,
            )
    return max(closed, key=lambda each: each.per_s), opened


def _measure_grpc(
    loop: Callable[..., LoadResult],
    *,
    server: Any,
    call: Callable[[bytes], Any],
    concurrency: int,
    asked_per_s: float | None = None,
) -> GrpcLimit:
    before = sum(server.cpu_times()[:2])
    result = loop(call, [bytes(_REQUEST_BYTES)], warmup=2 * concurrency)
    spent = sum(server.cpu_times()[:2]) - before
    return GrpcLimit(
        asked_per_s=asked_per_s,
        concurrency=concurrency,
        per_s=result.ok / result.duration_s,
        per_core_s=result.ok / result.cpu_s,
        cores=result.cpu_s / result.duration_s,
        server_cores=spent / result.duration_s,
        late_share=result.late / max(1, result.ok),
    )
