"""``python -m bench.validation.open_loop``: the open loop before a server with a known answer.

A server that takes the same time for every request, one at a time, under Poisson arrivals is the
queue M/D/1. Its response times are known: in distribution by formula, and for the arrivals that
were drawn, request by request, by Lindley's recursion. It is loaded in two ways:

- by a `VirtualClock`, many times: the generator's own code, and nothing else in the world takes
  time. Every response time must be Lindley's.
- by the machine's clock, with several seeds, each in a process of its own at the same time. The
  server here is a clock: it says when a request that comes now will be done, and the caller sleeps
  until then. So it keeps its service time even where this machine is disturbed, as a server
  elsewhere would.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench import arrivals
from bench.effective import worth
from bench.environment import environment, load_average
from bench.latencies import record
from bench.load import open_loop
from bench.validation.queueing import md1_percentile, simulate
from bench.validation.result import hand_over
from bench.validation.virtual_clock import VirtualClock, VirtualServer
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.requests import Array

KIND = "rankserve-validation-open-loop"
QUANTILE = 0.99
# More requests the longer the queue remembers.
COUNTS = {0.3: 5_000, 0.6: 12_000, 0.9: 75_000}
_WORKERS = 64


def check_virtual(
    load: float, count: int, *, service_s: float, seeds: Sequence[int]
) -> dict[str, Any]:
    """Load the server on a `VirtualClock`, once for each seed.

    Args:
        load: Share of the time that the server is busy, in (0, 1).
        count: How many requests.
        service_s: Of every request.
        seeds: Of the arrivals.

    Returns:
        In how many runs a p99 was given, in how many theory's lies within its interval, and the
        largest difference of a response time from Lindley's.
    """
    given = within = 0
    apart = 0.0
    for seed in seeds:
        clock = VirtualClock()
        schedule = arrivals.poisson(load / service_s, count=count, seed=seed)
        server = VirtualServer(clock, [service_s] * count)
        found = open_loop(server, [None], schedule_s=schedule, workers=1, clock=clock)
        exact = simulate(schedule, np.full(count, service_s))
        apart = max(apart, float(np.abs(found.response_s - exact).max()))
        said = _against_theory(found.response_s, load, service_s)
        given += said["p99_us"] is not None
        within += said["within_interval"]
    return {
        "load": load,
        "requests": count,
        "runs": len(seeds),
        "p99_given": given,
        "theory_within_interval": within,
        "farthest_from_lindley_us": apart * 1e6,
    }


def check_load(load: float, count: int, *, service_s: float, seed: int) -> dict[str, Any]:
    """Load the server on the machine's clock and compare its p99 with theory.

    Args:
        load: Share of the time that the server is busy, in (0, 1).
        count: How many requests.
        service_s: Of every request.
        seed: Of the arrivals.
    """
    schedule = arrivals.poisson(load / service_s, count=count, seed=seed)
    server = _Server(service_s)
    found = open_loop(server, [None], schedule_s=schedule, workers=_WORKERS)
    exact = simulate(schedule, np.full(count, service_s))
    beyond = np.quantile(found.response_s - exact, (0.5, 0.99)) * 1e6
    return {
        "load": load,
        "requests": count,
        "seed": seed,
        "late": found.late,
        **_against_theory(found.response_s, load, service_s),
        "same_arrivals_p99_us": record(exact).point_us(QUANTILE),
        "beyond_same_arrivals_us": {"p50": float(beyond[0]), "p99": float(beyond[1])},
    }


def _against_theory(response_s: Array, load: float, service_s: float) -> dict[str, Any]:
    worth_independent = worth(response_s, QUANTILE)
    percentile = record(response_s).percentile(QUANTILE, worth_independent)
    theory_us = md1_percentile(load, QUANTILE) * service_s * 1e6
    return {
        "worth_independent": round(worth_independent, 1),
        "p99_us": None if percentile is None else percentile.to_json(),
        "theory_p99_us": theory_us,
        "within_interval": percentile is not None
        and percentile.low_us <= theory_us <= percentile.high_us,
    }


class _Server:
    """Serves one request at a time, each for the same time, in the order they come."""

    def __init__(self, service_s: float) -> None:
        self._service_s = service_s
        self._free_at = 0.0
        self._turn = threading.Lock()

    def __call__(self, _: None) -> None:
        """Wait until this request is served."""
        with self._turn:
            self._free_at = max(self._free_at, time.perf_counter()) + self._service_s
            done = self._free_at
        time.sleep(max(0.0, done - time.perf_counter()))


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--service-ms", type=float, default=2.0, show_default=True, help="Of each request.")
@click.option("--seeds", type=int, default=3, show_default=True,
              help="Runs of each load by the machine's clock.")  # fmt: skip
@click.option("--virtual-seeds", type=int, default=40, show_default=True,
              help="Runs of each load by a virtual clock.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    service_ms: float, seeds: int, virtual_seeds: int, out: Path | None, as_json: bool
) -> None:
    """Compare the open loop's p99 with queueing theory at 30, 60 and 90 % load."""
    service_s, busy = service_ms / 1e3, load_average()
    virtual, real = [], []
    for load, count in COUNTS.items():
        click.echo(f"{load:.0%} load: {count:,} requests", err=True)
        virtual.append(check_virtual(load, count, service_s=service_s, seeds=range(virtual_seeds)))
        real += _at_once(partial(check_load, load, count, service_s=service_s), seeds)
    result = {
        "kind": KIND,
        "schema": 2,
        "command": f"python -m bench.validation.open_loop --service-ms {service_ms:g} "
        f"--seeds {seeds} --virtual-seeds {virtual_seeds}",
        "environment": environment().to_json(),
        "load_average": busy,
        "service_us": service_ms * 1e3,
        "virtual": virtual,
        "checks": real,
    }
    hand_over(result, out, as_json=as_json)
    if as_json:
        return
    for each in virtual if virtual_seeds else ():
        click.echo(
            f"{each['load']:.0%} by a virtual clock: theory within the interval in "
            f"{each['theory_within_interval']} of the {each['p99_given']} runs with a p99 "
            f"(of {each['runs']}); at most {each['farthest_from_lindley_us']:.2g} µs from Lindley's"
        )
    for each in real:
        click.echo(_line(each))


def _at_once(check: partial[dict[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """Run each seed in a process of its own, all at the same time."""
    if not seeds:
        return []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(seeds, mp_context=context) as pool:
        waiting = [pool.submit(check, seed=seed) for seed in range(seeds)]
        return [each.result() for each in waiting]


def _line(check: dict[str, Any]) -> str:
    said = check["p99_us"]
    measured = (
        "unknown"
        if said is None
        else f"{said['value_us']:,.0f} ({said['low_us']:,.0f}-{said['high_us']:,.0f})"
    )
    return (
        f"{check['load']:.0%}, seed {check['seed']}: p99 {measured} µs, theory "
        f"{check['theory_p99_us']:,.0f} µs, "
        f"{'within' if check['within_interval'] else 'not within'} the interval"
    )


if __name__ == "__main__":
    main()
