"""``python -m bench.validation.transports``: the floor of each transport, and the client above it.

One real embedded server serves a model that computes nothing. All ways to it are called in turn and
in drawn order, 20 calls in a row: prebuilt bytes by gRPC's blocking call, by ``grpc.aio`` and over
HTTP with Triton's binary data; prebuilt messages that say where in shared memory the tensors lie;
the bare calls of plain ``tritonclient``; and our client, which also packs the request, checks it
and its answer, and keeps a deadline. CPU time is this process's alone, all threads. A ratio is that
of a round to the plain gRPC client's of the same round; given are the median and the quartiles.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.environment import environment, load_average
from bench.null_server import null_server
from bench.validation.result import hand_over
from bench.validation.served_identity import answer_to, make_request, served_identity
from bench.validation.transport_ways import PLAIN, Ways
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

KIND = "rankserve-validation-transports"
_IN_A_ROW = 20
_WARM_UP = 100
AT_ONCE = 16


def in_turn(
    ways: dict[str, Callable[[int], list[float]]], rounds: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Call each way ``rounds`` times 20 in a row; return CPU and response times of each."""
    order = random.Random(seed)
    took: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    p50: dict[str, list[float]] = {name: [] for name in ways}
    for each in ways.values():
        each(_WARM_UP)
    for _ in range(rounds):
        for name in order.sample(list(ways), len(ways)):
            spent = time.process_time()
            block = ways[name](_IN_A_ROW)
            cpu[name].append((time.process_time() - spent) / _IN_A_ROW)
            p50[name].append(float(np.median(block)))
            took[name] += block
    return [
        {
            "way": name,
            "calls": len(took[name]),
            "cpu_us": float(np.median(cpu[name])) * 1e6,
            "p50_us": float(np.median(took[name])) * 1e6,
            "cpu_ratio": _ratio(cpu[name], cpu[PLAIN]),
            "p50_ratio": _ratio(p50[name], p50[PLAIN]),
        }
        for name in ways
    ]


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    ratios = np.array(ours) / np.array(theirs)
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {"median": float(median), "quartile_1": float(low), "quartile_3": float(high)}


def at_once(
    ways: dict[str, Callable[[int], list[float]]], rounds: int, calls: int = 100
) -> list[dict[str, Any]]:
    """Call each way from 16 threads of this process; return the requests/s of each.

    They ask `bench.null_server`, so that it is the caller that limits them and not the server.
    """
    order = random.Random(0)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(rounds + 1):
            for name in order.sample(list(ways), len(ways)):
                began = time.perf_counter()
                list(pool.map(ways[name], [calls] * AT_ONCE))
                rates[name].append(AT_ONCE * calls / (time.perf_counter() - began))
    return [
        {
            "way": name,
            "per_s": float(np.median(rates[name][1:])),
            "ratio": _ratio(rates[name][1:], rates[PLAIN][1:]),
        }
        for name in ways
    ]


def measure(sizes: list[int], rounds: int, only: str = "") -> dict[str, Any]:
    """Measure all ways for each number of candidates, and some of them 16 at once."""
    found: dict[str, Any] = {"sizes": [], "at_once": []}
    with served_identity() as server:
        for candidates in sizes:
            request = make_request(candidates)
            with ExitStack() as stack:
                made = Ways(server.grpc_url, server.http_url, request, stack)
                ways = {n: way for n, way in made.all().items() if only in n or n == PLAIN}
                found["sizes"].append(
                    {
                        "candidates": candidates,
                        "tensor_bytes": sum(each.nbytes for each in made.packed.values()),
                        "ways": in_turn(ways, rounds),
                    }
                )
            _say(found["sizes"][-1])
    request = make_request(sizes[0])
    with null_server(answer_to(request)) as (address, _), ExitStack() as stack:
        made = Ways(address, "", request, stack, described=False)
        found["at_once"] = at_once(made.some(), max(1, rounds // 4))
    for each in found["at_once"]:
        click.echo(
            f"{AT_ONCE} at once, {each['way']:28} {each['per_s']:8.0f} requests/s "
            f"({_said(each['ratio'])})",
            err=True,
        )
    return found


def _say(size: dict[str, Any]) -> None:
    click.echo(f"{size['candidates']} candidates, {size['tensor_bytes']} bytes:", err=True)
    for each in size["ways"]:
        click.echo(
            f"  {each['way']:28} CPU {each['cpu_us']:7.0f} us ({_said(each['cpu_ratio'])}), "
            f"p50 {each['p50_us']:7.0f} us ({_said(each['p50_ratio'])})",
            err=True,
        )


def _said(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f}, {ratio['quartile_1']:.2f}-{ratio['quartile_3']:.2f}"


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True)
@click.option(
    "--candidates",
    "sizes",
    type=click.IntRange(1),
    multiple=True,
    default=(200, 2000, 20000),
    show_default=True,
)
@click.option("--only", default="", help="Only ways with this in their names, and the plain one.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    rounds: int, sizes: tuple[int, ...], only: str, out: Path | None, *, as_json: bool
) -> None:
    """Measure CPU and response time of a call by every way to a served model."""
    busy = load_average()
    found = measure(list(sizes), rounds, only)
    result = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.transports --rounds {rounds} "
        + " ".join(f"--candidates {each}" for each in sizes),
        "environment": environment().to_json(),
        "load_average": busy,
        **found,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
