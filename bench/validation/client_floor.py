"""``python -m bench.validation.client_floor``: what waiting for a gRPC call costs a client.

Prebuilt bytes to `bench.null_server`, one call at a time, each way in turn and in drawn order:
gRPC's blocking call, its future, its single-threaded stream, and the client's own completion thread
(docs/decisions/019). Ratios mean more than times; CPU time is this process's alone.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.environment import environment, load_average
from bench.null_server import null_server
from bench.validation.result import hand_over
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

KIND = "rankserve-validation-client-floor"
BASELINE = "blocking"
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_BODY, _ANSWER = bytes(4096), bytes(400)
_PATIENCE_S = 30.0
_IN_A_ROW = 20


def ways(address: str, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return each way to call, on a channel of its own."""
    import grpc

    def method(*options: tuple[str, int]) -> Any:
        return stack.enter_context(grpc.insecure_channel(address, options=options))

    unhurried = import_module("client.unhurried").UnhurriedCalls
    own, public = unhurried(method()), unhurried(method(), public=True)
    blocking = method().unary_unary(_METHOD)
    future = method().unary_unary(_METHOD)
    single = ("SingleThreadedUnaryStream", 1)
    stream = method(single).unary_stream(_METHOD)
    for each in (own, public):
        stack.callback(each.close, _PATIENCE_S)

    def wait(calls: Any) -> Any:
        ended: SimpleQueue[Any] = SimpleQueue()
        calls.start(_BODY, ended.put)
        return ended.get(timeout=_PATIENCE_S).response

    return {
        BASELINE: lambda: blocking(_BODY),
        "future": lambda: future.future(_BODY).result(timeout=_PATIENCE_S),
        "single-threaded stream": lambda: list(stream(_BODY)),
        "completion thread": lambda: wait(own),
        "completion by futures": lambda: wait(public),
    }


def measure(rounds: int, seed: int = 0) -> list[dict[str, Any]]:
    """Call each way ``rounds`` times 20 in a row; return CPU and response times of each."""
    order = random.Random(seed)
    with null_server(_ANSWER) as (address, _), ExitStack() as stack:
        callers = ways(address, stack)
        waits: dict[str, list[float]] = {name: [] for name in callers}
        cpu = dict.fromkeys(callers, 0.0)
        for each in callers.values():
            each()
        for _ in range(rounds):
            for name in order.sample(list(callers), len(callers)):
                spent = time.process_time()
                for _ in range(_IN_A_ROW):
                    began = time.perf_counter()
                    callers[name]()
                    waits[name].append(time.perf_counter() - began)
                cpu[name] += time.process_time() - spent
    return [
        {
            "way": name,
            "calls": len(waits[name]),
            "cpu_us": cpu[name] / len(waits[name]) * 1e6,
            "p50_us": float(np.median(waits[name])) * 1e6,
            "cpu_ratio": cpu[name] / cpu[BASELINE],
            "p50_ratio": float(np.median(waits[name]) / np.median(waits[BASELINE])),
        }
        for name in callers
    ]


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(rounds: int, out: Path | None, as_json: bool) -> None:
    """Measure CPU and response time of a call by each way to wait for it."""
    busy, found = load_average(), measure(rounds)
    for each in found:
        click.echo(
            f"{each['way']:24} CPU {each['cpu_us']:7.1f} us ({each['cpu_ratio']:.2f} of {BASELINE})"
            f", p50 {each['p50_us']:7.1f} us ({each['p50_ratio']:.2f})",
            err=as_json,
        )
    result = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.client_floor --rounds {rounds}",
        "environment": environment().to_json(),
        "load_average": busy,
        "ways": found,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
