"""``python -m bench.validation.overload_drill``: three times the load that servers can bear.

Real embedded servers serve a model that answers after a known time, by sleeping
(`bench.validation.timed_model`). What they can do is measured in a closed loop, and is instances
by seconds at most. Then requests with a deadline come at Poisson times from one client: for a while
at half of the capacity, at a multiple of it, at half again; once with `Policies(limit=True)`, once
without. A request is good if its scores came within its deadline, from the moment it was due.

The servers sleep, so a machine of two cores does; the client needs one of them, and a run whose
requests were sent late says so.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.arrivals import poisson
from bench.environment import environment, load_average
from bench.validation.result import hand_over
from bench.validation.timed_server import MODEL, served, timed_requests
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.requests import Array

KIND = "rankserve-validation-overload-drill"
_CALM = 0.5
# What counts as normal after the overload: half as much again as any window of the calm before it.
_NORMAL = 1.5
# Over how long a p99 is taken: a second of a small load has too few requests for one.
_WINDOW_S = 5


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the servers.

    Attributes:
        capacity_per_s: Of all replicas together.
        deadline_s: Of each request, from the moment it is due.
        calm_s: How long the calm before and after the overload lasts.
        overload_s: How long the overload lasts.
        factor: Of the capacity, what comes during the overload.
    """

    capacity_per_s: float
    deadline_s: float
    calm_s: float
    overload_s: float
    factor: float

    def arrivals(self, seed: int) -> Array:
        """Return when each request is due, float64 seconds, ascending."""
        began = 0.0
        parts: list[Array] = []
        for seconds, share in self._parts():
            rate = share * self.capacity_per_s
            due = poisson(rate, count=round(rate * seconds * 2) + 50, seed=seed + len(parts))
            parts.append(began + due[due < seconds])
            began += seconds
        return np.concatenate(parts)

    def _parts(self) -> tuple[tuple[float, float], ...]:
        return ((self.calm_s, _CALM), (self.overload_s, self.factor), (self.calm_s, _CALM))


def judge(load: Load, due: Array, took: Array) -> dict[str, Any]:
    """Return what became of the requests.

    Args:
        load: What was asked.
        due: When each request was, float64 ``[R]``.
        took: Seconds from then to its scores, float64 ``[R]``; infinity if none came.
    """
    begins, ends = load.calm_s, load.calm_s + load.overload_s
    before, during, after = due < begins, (due >= begins) & (due < ends), due >= ends
    calm_s = float(np.quantile(took[before], 0.99))
    normal_s = _NORMAL * max(_window_p99s(due[before], took[before]), default=np.inf)
    good = took <= load.deadline_s
    share = float(good[during].sum() / (load.capacity_per_s * load.overload_s))
    return {
        "requests": len(due),
        "normal_p99_ms": _ms(calm_s),
        "normal_up_to_ms": _ms(normal_s),
        "good_before": round(float(good[before].mean()), 4),
        "goodput_share_of_capacity": round(share, 4),
        "good_after": round(float(good[after].mean()), 4),
        "recovery_s": _recovery_s(due[after] - ends, took[after], normal_s),
    }


def _ms(seconds: float) -> float | None:
    return round(seconds * 1e3, 2) if np.isfinite(seconds) else None


def _window_p99s(due: Array, took: Array) -> list[float]:
    """Return the p99 of each window that begins at a whole second, in seconds."""
    begins = range(int(due[-1]) - _WINDOW_S + 1) if len(due) else ()
    windows = [took[(due >= begin) & (due < begin + _WINDOW_S)] for begin in begins]
    return [float(np.quantile(w, 0.99, method="lower")) if len(w) else 0.0 for w in windows]


def _recovery_s(due: Array, took: Array, normal_s: float) -> float | None:
    """Return the first whole second from which on the p99 of all windows is normal."""
    if not np.isfinite(normal_s):
        return None
    slow = [place for place, p99 in enumerate(_window_p99s(due, took)) if p99 > normal_s]
    since = slow[-1] + 1 if slow else 0
    return float(since) if since <= int(due[-1]) - _WINDOW_S else None


async def _capacity_per_s(urls: Sequence[str], at_once: int, seconds: float) -> float:
    """Return how many requests a second are answered in a closed loop."""
    kind = import_module("client").AsyncRankerClient
    async with kind(list(urls), MODEL, timeout_s=60.0) as client:
        request = timed_requests(1)[0][0]
        await client.rank(request)
        until = time.monotonic() + seconds

        async def work() -> int:
            answered = 0
            while time.monotonic() < until:
                await client.rank(request)
                answered += 1
            return answered

        return sum(await asyncio.gather(*(work() for _ in range(at_once)))) / seconds


async def _run(urls: Sequence[str], load: Load, due: Array, *, limit: bool) -> dict[str, Any]:
    kinds, request = import_module("client"), timed_requests(1)[0][0]
    took, lags = np.full(len(due), np.inf), np.zeros(len(due))
    policies = kinds.Policies(limit=limit)
    async with kinds.AsyncRankerClient(
        list(urls), MODEL, timeout_s=load.deadline_s, policies=policies
    ) as client:
        await client.signature()
        began = time.monotonic()

        async def ask(place: int) -> None:
            late_s = time.monotonic() - began - due[place]
            lags[place] = late_s
            try:
                await client.rank(request, timeout_s=load.deadline_s - late_s)
            except kinds.RankClientError:
                return
            took[place] = time.monotonic() - began - due[place]

        async with asyncio.TaskGroup() as tasks:
            for place, moment in enumerate(due):
                if (wait_s := began + moment - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                tasks.create_task(ask(place))
        counts, limits = client.counts(), [each["limit"] for each in client.replicas()]
    lag_s = float(np.quantile(lags, 0.99))
    return {
        "limit": limit,
        **judge(load, due, took),
        "limits_at_end": limits,
        "lag_p99_ms": round(lag_s * 1e3, 2),
        # Requests that were sent late are not what a client with a core would have sent.
        "void": lag_s > load.deadline_s / 10,
        "counts": counts,
    }


def drill(
    *, replicas: int, instances: int, service_s: float, load: Load, seed: int
) -> list[dict[str, Any]]:
    """Run the load with the limit and without; return what became of each.

    Args:
        replicas: Servers.
        instances: Of the model, in each.
        service_s: What a request takes.
        load: Its capacity is what the servers can do at most; what they do is put in its place.
        seed: Of the arrivals.
    """
    runs = []
    for limit in (True, False):
        with ExitStack() as stack:  # servers of their own: no run meets another's queue
            urls = [
                stack.enter_context(served(instances, service_s)).grpc_url for _ in range(replicas)
            ]
            at_once = 4 * replicas * instances
            measured = asyncio.run(_capacity_per_s(urls, at_once, min(5.0, load.calm_s)))
            found = replace(load, capacity_per_s=measured)
            run = asyncio.run(_run(urls, found, found.arrivals(seed), limit=limit))
            runs.append({"capacity_per_s": round(measured, 1)} | run)
        _say(runs[-1])
    return runs


def _say(run: dict[str, Any]) -> None:
    recovery = run["recovery_s"]
    click.echo(
        f"{'limit' if run['limit'] else 'no limit':9} goodput "
        f"{run['goodput_share_of_capacity']:.1%} of the capacity, normal p99 "
        f"{run['normal_p99_ms']} ms (in 5 s up to {run['normal_up_to_ms']} ms), again after "
        f"{'never' if recovery is None else f'{recovery:g} s'}, "
        f"{run['good_after']:.1%} good after; limits {run['limits_at_end']}"
        + (f"; void: requests were sent {run['lag_p99_ms']} ms late" if run["void"] else ""),
        err=True,
    )


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True)
@click.option("--instances", type=click.IntRange(2), default=2, show_default=True, help="Of each.")
@click.option("--service-ms", type=float, default=20.0, show_default=True)
@click.option("--deadline-ms", type=float, default=200.0, show_default=True)
@click.option("--calm", "calm_s", type=float, default=20.0, show_default=True, help="Seconds.")
@click.option("--overload", "overload_s", type=float, default=60.0, show_default=True)
@click.option("--factor", type=float, default=3.0, show_default=True, help="Of the capacity.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(out: Path | None, *, as_json: bool, **options: Any) -> None:
    """Ask more than the servers can do, with the client's limit and without."""
    busy = load_average()
    service_s = options["service_ms"] / 1e3
    capacity = options["replicas"] * options["instances"] / service_s
    load = Load(
        capacity,
        options["deadline_ms"] / 1e3,
        options["calm_s"],
        options["overload_s"],
        options["factor"],
    )
    runs = drill(
        replicas=options["replicas"],
        instances=options["instances"],
        service_s=service_s,
        load=load,
        seed=options["seed"],
    )
    given = {name.removesuffix("_s").replace("_", "-"): value for name, value in options.items()}
    result = {
        "kind": KIND,
        "schema": 2,
        "command": "python -m bench.validation.overload_drill "
        + " ".join(f"--{name} {value:g}" for name, value in given.items()),
        "environment": environment().to_json(),
        "load_average": busy,
        "most_capacity_per_s": capacity,
        "runs": runs,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
