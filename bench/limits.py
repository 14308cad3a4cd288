"""What the generator itself can do: its limits, against targets that cost next to nothing.

A latency below the generator's lag, or a rate above its limit, is the generator's own. Rates over
gRPC are stated per core-second of this process beside those that were reached, for the server it
calls needs cores too.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent import futures
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrivals import poisson
from bench.environment import Environment, environment, load_average
from bench.load import LoadResult, closed_loop, open_loop
from bench.tables import number_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

KIND = "rankserve-limits"
_METHOD = "/rankserve.Null/Answer"
_BODY = bytes(4096)  # about a request of 100 candidates with 5 IDs each
_ANSWER = bytes(400)
_TARGET_S = 0.001
_RATE_PER_S = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this machine's generator reached.

    Attributes:
        in_process_per_s: Closed loop on a function that does nothing: requests/s of one core.
        grpc_per_s: Closed loop over gRPC with prebuilt bytes, to a server in a process of its own
            that answers at once.
        grpc_per_core_s: The same per second of this process's CPU time.
        grpc_concurrency: At which concurrency.
        lag_p50_us: How late requests were sent, at 200 Poisson arrivals/s to a target of 1 ms.
        lag_p99_us: The same.
        added_p99_us: By how much the generator made the 1 ms target's p99 longer: the 99th
            percentile of what was measured less what the target says it took.
        environment: The machine.
        load_average: Of the last minute before: with others at work, limits are not the machine's.
    """

    in_process_per_s: float
    grpc_per_s: float
    grpc_per_core_s: float
    grpc_concurrency: int
    lag_p50_us: float
    lag_p99_us: float
    added_p99_us: float
    environment: Environment
    load_average: float

    def to_json(self) -> dict[str, Any]:
        """Return the limits as JSON-ready data."""
        data = {"kind": KIND, "schema": 1} | asdict(self)
        return data | {"environment": self.environment.to_json()}


def find_limits(*, seconds: float = 3.0) -> Limits:
    """Measure the generator's limits: about ``5 * seconds`` in all.

    Args:
        seconds: For each part.
    """
    busy = load_average()
    free = closed_loop(_nothing, [0], concurrency=1, duration_s=seconds)
    reached, per_core, concurrency = _over_grpc(seconds)
    lags, added = _lag(seconds)
    return Limits(
        in_process_per_s=free.ok / free.duration_s,
        grpc_per_s=reached,
        grpc_per_core_s=per_core,
        grpc_concurrency=concurrency,
        lag_p50_us=float(np.percentile(lags, 50) * 1e6),
        lag_p99_us=float(np.percentile(lags, 99) * 1e6),
        added_p99_us=float(np.percentile(added, 99) * 1e6),
        environment=environment(),
        load_average=busy,
    )


def limits_text(found: Limits) -> str:
    """Return the limits as a few lines."""
    reached, per_core = number_text(found.grpc_per_s), number_text(found.grpc_per_core_s)
    lag = f"p50 {found.lag_p50_us:.0f} µs, p99 {found.lag_p99_us:.0f} µs"
    cores = found.environment.usable_cores
    lines = {
        "in process": f"{number_text(found.in_process_per_s)} requests/s",
        "over gRPC": f"{reached} requests/s, {found.grpc_concurrency} at once",
        "over gRPC, a core": f"{per_core} requests for each second of CPU time",
        f"lag at {_RATE_PER_S:.0f}/s": lag,
        "added to a 1 ms p99": f"{found.added_p99_us:.0f} µs",
        "load average before": f"{found.load_average:.2f} on {cores} cores",
    }
    return "\n".join(f"{name:22}{value}" for name, value in lines.items())


def _nothing(_: object) -> None:
    """Cost next to nothing."""


def _lag(seconds: float) -> tuple[Any, Any]:
    """Return lags, and what the generator added to each request, in seconds."""
    took: list[tuple[float, float]] = []

    def one_millisecond(_: object) -> None:
        began = time.perf_counter()
        while time.perf_counter() - began < _TARGET_S:
            pass
        took.append((began, time.perf_counter() - began))

    count = max(400, round(_RATE_PER_S * seconds))
    schedule = poisson(_RATE_PER_S, count=count, seed=0)
    # One worker: two that poll in Python would hold each other's lock.
    result = open_loop(one_millisecond, [0], schedule_s=schedule, workers=1)
    inside = np.array([duration for _, duration in took])
    # Late arrivals waited for the target, which is not the generator's doing: leave them out.
    waited = result.started_s - result.intended_s
    own = ~_held_up(result)
    return result.lag_s, (waited + result.service_s - inside)[own]


def _held_up(result: LoadResult) -> Any:
    """Whether the request before was still under way when each was due."""
    before = np.concatenate([[-np.inf], result.finished_s[:-1]])
    return before > result.intended_s


def _over_grpc(seconds: float) -> tuple[float, float, int]:
    """Return the best of a few concurrencies: requests/s, per core-second, and which."""
    import grpc

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve_nothing, args=(theirs,), daemon=True)
    server.start()
    try:
        port = ours.recv()
        found = []
        for concurrency in (1, 4):
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = partial(channel.unary_unary(_METHOD, None, None), timeout=5.0)
                found.append((*_rate(call, concurrency, seconds), concurrency))
    finally:
        ours.close()  # the server ends with it
        server.join(5.0)
        server.terminate()
    return max(found)


def _rate(call: Callable[[bytes], Any], concurrency: int, seconds: float) -> tuple[float, float]:
    began = time.process_time()
    result = closed_loop(call, [_BODY], concurrency=concurrency, duration_s=seconds, warmup=50)
    spent = time.process_time() - began
    return result.ok / result.duration_s, (result.ok + 50) / spent


def _serve_nothing(pipe: Connection) -> None:
    """Answer every request at once, until the other end closes the pipe."""
    import grpc

    def answer(_request: bytes, _context: Any) -> bytes:
        return _ANSWER

    handler = grpc.unary_unary_rpc_method_handler(answer)
    service, method = _METHOD.strip("/").split("/")
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    pipe.send(port)
    try:
        pipe.recv()
    except EOFError:
        server.stop(0).wait()
