"""``python -m bench.validation.coordinated_omission``: what each loop sees of a stall.

A server that answers in 1 ms stands still once for a second. 100 users a second come all the same,
so about a hundred of them wait: half a second on average. An open loop that counts from when each
was due shows that. The same requests counted from when they were sent, and a closed loop, which
sends nothing while it waits, show one slow request (Gil Tene named this coordinated omission).

Time is a `VirtualClock`'s: the figures are the same on any machine.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.arrivals import poisson
from bench.latencies import QUANTILES, percentile_label, record
from bench.load import closed_loop, open_loop
from bench.validation.result import hand_over
from bench.validation.virtual_clock import VirtualClock, VirtualServer
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankers.requests import Array

KIND = "rankserve-validation-coordinated-omission"
RATE_PER_S = 100.0
SERVICE_S = 0.001
STALL_S = 1.0
REQUESTS = 6_000
_STALLED = 3_000  # which request finds the server standing still
_SLOW_S = 0.1


def stalled_runs(*, seed: int) -> dict[str, dict[str, Any]]:
    """Send the same number of requests to the same stalling server in both loops.

    Args:
        seed: Of the arrivals.

    Returns:
        Figures of the open loop, of the same requests counted from when they were sent, and of the
        closed loop.
    """
    clock = VirtualClock()
    opened = open_loop(
        VirtualServer(clock, _service()),
        [None],
        schedule_s=poisson(RATE_PER_S, count=REQUESTS, seed=seed),
        workers=1,
        clock=clock,
    )
    clock = VirtualClock()
    server = VirtualServer(clock, _service())
    closed = closed_loop(server, [None], concurrency=1, count=REQUESTS, clock=clock)
    return {
        "open loop, from when each was due": _figures(opened.response_s),
        "open loop, from when each was sent": _figures(opened.service_s),
        "closed loop": _figures(closed.response_s),
    }


def _service() -> Iterator[float]:
    for number in itertools.count():
        yield SERVICE_S + (STALL_S if number == _STALLED else 0.0)


def _figures(seconds: Array) -> dict[str, Any]:
    latencies = record(seconds)
    return {
        "slow": int((seconds > _SLOW_S).sum()),
        "waited_in_all_s": float(seconds[seconds > _SLOW_S].sum()),
        "points_us": {percentile_label(each): latencies.point_us(each) for each in QUANTILES},
        "max_us": float(seconds.max() * 1e6),
    }


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the arrivals.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(seed: int, out: Path | None, as_json: bool) -> None:
    """Show what a stall of one second looks like to an open and to a closed loop."""
    runs = stalled_runs(seed=seed)
    result = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.coordinated_omission --seed {seed}",
        "rate_per_s": RATE_PER_S,
        "service_s": SERVICE_S,
        "stall_s": STALL_S,
        "requests": REQUESTS,
        "slow_s": _SLOW_S,
        "runs": runs,
    }
    hand_over(result, out, as_json=as_json)
    if as_json:
        return
    for name, each in runs.items():
        points = ", ".join(f"{k} {v / 1e3:,.4g} ms" for k, v in each["points_us"].items())
        click.echo(f"{name:36} {points}; {each['slow']} over {_SLOW_S * 1e3:g} ms")


if __name__ == "__main__":
    main()
