"""``python -m bench.validation.open_loop``: the open loop before a server with a known answer.

A server that takes the same time for every request, one at a time, under Poisson arrivals is the
queue M/D/1. Its response times are known: in distribution by formula, and for the arrivals that
were drawn, request by request, by Lindley's recursion. The server here is a clock: it says when a
request that comes now will be done, and the caller sleeps until then. So it keeps its service time
even where this machine is disturbed, as a server elsewhere would.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench import arrivals
from bench.effective import effective_count
from bench.environment import environment
from bench.latencies import record
from bench.load import open_loop
from bench.validation.queueing import md1_percentile, simulate
from rankers.command_line import CommandLine, json_option, print_json
from rankers.files import write_atomically

if TYPE_CHECKING:
    from rankers.requests import Array

KIND = "rankserve-validation-open-loop"
QUANTILE = 0.99
# More requests the longer the queue remembers.
_COUNTS = {0.3: 3_000, 0.6: 7_000, 0.9: 25_000}
_WORKERS = 64


def check_load(load: float, count: int, *, service_s: float, seed: int) -> dict[str, Any]:
    """Load the simulated server and compare its p99 with theory.

    Args:
        load: Share of the time that the server is busy, in (0, 1).
        count: How many requests.
        service_s: Of every request.
        seed: Of the arrivals.
    """
    schedule = arrivals.poisson(load / service_s, count=count, seed=seed)
    server = _Server(service_s)
    found = open_loop(server, [None], schedule_s=schedule, workers=_WORKERS)
    response = found.response_s
    latencies = record(response)
    bound = latencies.point_us(QUANTILE) / 1e6
    worth = effective_count(response > bound)
    percentile = latencies.percentile(QUANTILE, worth)
    theory_us = md1_percentile(load, QUANTILE) * service_s * 1e6
    exact = simulate(schedule, np.full(count, service_s))
    return {
        "load": load,
        "requests": count,
        "worth_independent": round(worth, 1),
        "late": found.late,
        "p99_us": None if percentile is None else percentile.to_json(),
        "theory_p99_us": theory_us,
        "within_interval": percentile is not None
        and percentile.low_us <= theory_us <= percentile.high_us,
        "same_arrivals_p99_us": _nearest_rank(exact) * 1e6,
        "beyond_same_arrivals_us": {
            name: float(np.quantile(response - exact, quantile) * 1e6)
            for name, quantile in (("p50", 0.5), ("p99", 0.99))
        },
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


def _nearest_rank(values: Array) -> float:
    return float(np.sort(values)[int(np.ceil(round(QUANTILE * len(values), 9))) - 1])


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--service-ms", type=float, default=5.0, show_default=True, help="Of each request.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the arrivals.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(service_ms: float, seed: int, out: Path | None, as_json: bool) -> None:
    """Compare the open loop's p99 with queueing theory at 30, 60 and 90 % load."""
    command = f"python -m bench.validation.open_loop --service-ms {service_ms:g} --seed {seed}"
    checks = []
    for load, count in _COUNTS.items():
        click.echo(f"{load:.0%} load: {count:,} requests", err=True)
        checks.append(check_load(load, count, service_s=service_ms / 1e3, seed=seed))
    result = {
        "kind": KIND,
        "schema": 1,
        "command": command,
        "environment": environment().to_json(),
        "service_us": service_ms * 1e3,
        "checks": checks,
    }
    if out is not None:
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    if as_json:
        print_json(result)
        return
    for each in checks:
        said = each["p99_us"]
        measured = (
            "unknown"
            if said is None
            else f"{said['value_us']:,.0f} ({said['low_us']:,.0f}-{said['high_us']:,.0f})"
        )
        click.echo(
            f"{each['load']:.0%}: p99 {measured} µs, theory {each['theory_p99_us']:,.0f} µs, "
            f"{'within' if each['within_interval'] else 'not within'} the interval"
        )


if __name__ == "__main__":
    main()
