"""``python -m bench.validation.grpc_callers``: what a request costs by each way to call gRPC.

Prebuilt bytes on one channel to `bench.null_server`, in a closed loop: threads that block, futures
whose callbacks send the next request, and coroutines of ``grpc.aio``. The generator uses threads
(docs/decisions/007).
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.environment import environment, load_average
from bench.null_server import null_server
from bench.validation.result import hand_over
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

KIND = "rankserve-validation-grpc-callers"
CONCURRENCIES = (1, 4, 32)
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_BODY, _ANSWER = bytes(4096), bytes(400)
_PATIENCE_S = 5.0


def by_threads(address: str, concurrency: int, seconds: float) -> int:
    """Send from threads that each wait for their answer; return how many were answered."""
    import grpc

    answered = [0] * concurrency
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(_METHOD, None, None)
        until = time.perf_counter() + seconds

        def work(place: int) -> None:
            while time.perf_counter() < until:
                call(_BODY, timeout=_PATIENCE_S)
                answered[place] += 1

        threads = [threading.Thread(target=work, args=(each,)) for each in range(concurrency)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    return sum(answered)


def by_futures(address: str, concurrency: int, seconds: float) -> int:
    """Send the next request when the channel's own thread says that one was answered."""
    import grpc

    answered = 0
    under_way = concurrency
    done = threading.Event()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(_METHOD, None, None)
        until = time.perf_counter() + seconds

        def go_on(future: Any) -> None:  # only ever called by one thread of the channel
            nonlocal answered, under_way
            future.result()
            answered += 1
            if time.perf_counter() < until:
                call.future(_BODY, timeout=_PATIENCE_S).add_done_callback(go_on)
            else:
                under_way -= 1
                if not under_way:
                    done.set()

        for _ in range(concurrency):
            call.future(_BODY, timeout=_PATIENCE_S).add_done_callback(go_on)
        done.wait(seconds + 2 * _PATIENCE_S)
    return answered


def by_coroutines(address: str, concurrency: int, seconds: float) -> int:
    """Send from coroutines of one event loop."""
    import grpc

    async def send() -> int:
        answered = 0
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(_METHOD, None, None)
            until = time.perf_counter() + seconds

            async def work() -> None:
                nonlocal answered
                while time.perf_counter() < until:
                    await call(_BODY, timeout=_PATIENCE_S)
                    answered += 1

            await asyncio.gather(*(work() for _ in range(concurrency)))
        return answered

    return asyncio.run(send())


CALLERS: dict[str, Callable[[str, int, float], int]] = {
    "threads": by_threads,
    "futures": by_futures,
    "coroutines": by_coroutines,
}


def measure_caller(name: str, concurrency: int, seconds: float) -> dict[str, Any]:
    """Measure one way to call, to a server of its own."""
    import psutil

    with null_server(_ANSWER) as (address, process):
        server = psutil.Process(process.pid)
        theirs, ours, began = sum(server.cpu_times()[:2]), time.process_time(), time.perf_counter()
        answered = CALLERS[name](address, concurrency, seconds)
        passed, spent = time.perf_counter() - began, time.process_time() - ours
        theirs = sum(server.cpu_times()[:2]) - theirs
    return {
        "caller": name,
        "concurrency": concurrency,
        "requests": answered,
        "per_s": answered / passed,
        "per_core_s": answered / spent,
        "cores": spent / passed,
        "server_cores": theirs / passed,
    }


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--seconds", type=float, default=3.0, show_default=True, help="Of each.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(seconds: float, out: Path | None, as_json: bool) -> None:
    """Measure requests/s over gRPC by threads, futures and coroutines."""
    busy, found = load_average(), []
    for concurrency in CONCURRENCIES:
        for name in CALLERS:
            found.append(measure_caller(name, concurrency, seconds))
            each = found[-1]
            click.echo(
                f"{name:10} {concurrency:3} at once: {each['per_s']:8,.0f} requests/s, "
                f"{each['per_core_s']:8,.0f} for each second of CPU time "
                f"({each['cores']:.2f} cores, server {each['server_cores']:.2f})",
                err=as_json,
            )
    result = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.grpc_callers --seconds {seconds:g}",
        "environment": environment().to_json(),
        "load_average": busy,
        "callers": found,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
