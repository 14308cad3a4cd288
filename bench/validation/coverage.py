"""``python -m bench.validation.coverage``: how often intervals hold, where the truth is known.

Response times of simulated queues, M/M/1 and M/D/1, are given to the bench as a run's. Its interval
of a percentile should hold the percentile that theory gives in 95 % of the runs in which the bench
gives one; a run too short for its queue should get none. An objective that is a little too strict
for the queue (11 of 1,000 requests miss a p99) should be said to hold in 1 % of the runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.early_stopping import judge
from bench.effective import worth
from bench.latencies import Latencies, percentile_label, record
from bench.slo import evidence
from bench.validation.queueing import md1_percentile, mm1_percentile, simulate
from bench.validation.result import hand_over
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from rankers.requests import Array

KIND = "rankserve-validation-coverage"
QUANTILES = (0.5, 0.9, 0.99)
# Of each load a run that is too short for its p99 and one that is not.
RUNS = ((0.3, 1_000), (0.3, 4_000), (0.6, 2_000), (0.6, 20_000), (0.9, 20_000), (0.9, 150_000))
_SERVICE_S = 1e-3
# The queue begins empty; after so many it has forgotten.
_FORGOTTEN = 5_000
_OBJECTIVE, _TRUE_MISSES = 0.99, 0.011


def count_covered(
    queue: str, load: float, requests: int, *, repeats: int, seed: int
) -> dict[str, Any]:
    """Simulate runs of one queue, and count intervals that were given and those that held.

    Args:
        queue: ``M/M/1`` or ``M/D/1``.
        load: Share of the time that its server is busy.
        requests: Of a run.
        repeats: How many runs.
        seed: Of the simulation.
    """
    random = np.random.default_rng([seed, round(load * 100), requests, len(queue), ord(queue[2])])
    theory = mm1_percentile if queue == "M/M/1" else md1_percentile
    given, held = dict.fromkeys(QUANTILES, 0), dict.fromkeys(QUANTILES, 0)
    # Theory's answer is rounded like the clock's: M/D/1 answers many requests in the same time.
    truth_us = {each: round(theory(load, each) * _SERVICE_S * 1e9) / 1e3 for each in QUANTILES}
    bound_ns = theory(load, 1 - _TRUE_MISSES) * _SERVICE_S * 1e9
    false_holds = 0
    for _ in range(repeats):
        run = record(_responses(random, queue, load, requests))
        for quantile, truth in truth_us.items():
            found = run.percentile(quantile, worth(_series(run), quantile))
            given[quantile] += found is not None
            held[quantile] += found is not None and found.low_us <= truth <= found.high_us
        false_holds += _is_said_to_hold(_series(run), bound_ns)
    return {
        "queue": queue,
        "load": load,
        "requests": requests,
        "repeats": repeats,
        "percentiles": {
            percentile_label(each): {"given": given[each], "held": held[each]} for each in QUANTILES
        },
        "false_holds": false_holds,
    }


def _responses(random: np.random.Generator, queue: str, load: float, requests: int) -> Array:
    count = requests + _FORGOTTEN
    arrivals = np.cumsum(random.exponential(_SERVICE_S / load, count))
    exponential = queue == "M/M/1"
    service = random.exponential(_SERVICE_S, count) if exponential else np.full(count, _SERVICE_S)
    return simulate(arrivals, service)[_FORGOTTEN:]


def _series(run: Latencies) -> Array:
    if run.samples_ns is None:
        raise ValueError("the run is longer than what is kept of one")
    return run.samples_ns


def _is_said_to_hold(samples_ns: Array, bound_ns: float) -> bool:
    """Judge as `bench.slo.Slo.judge` does."""
    part = evidence(samples_ns, bound_ns, _OBJECTIVE)
    requests = int(len(samples_ns) * part)
    misses = min(int(np.ceil((samples_ns > bound_ns).sum() * part)), requests)
    return judge(requests, misses, _OBJECTIVE).answer == "holds"


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--repeats", type=int, default=200, show_default=True, help="Runs of each queue.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the simulation.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(repeats: int, seed: int, out: Path | None, as_json: bool) -> None:
    """Count how often intervals hold the percentiles of queues with a known answer."""
    checks = []
    for queue in ("M/M/1", "M/D/1"):
        for load, requests in RUNS:
            found = count_covered(queue, load, requests, repeats=repeats, seed=seed)
            checks.append(found)
            said = ", ".join(
                f"{label} held {each['held']} of {each['given']}"
                for label, each in found["percentiles"].items()
            )
            click.echo(
                f"{queue} at {load:.0%}, {requests:,} requests, {repeats} runs: {said}; "
                f"false verdicts {found['false_holds']}",
                err=as_json,
            )
    result = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.coverage --repeats {repeats} --seed {seed}",
        "true_misses": _TRUE_MISSES,
        "checks": checks,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
