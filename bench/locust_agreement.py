"""Does Locust say what ``bench run`` says? ``python -m bench.locust_agreement grpc://…/model``.

Both send the same workload at the same Poisson rate, in turn, so that a noisy machine is unfair to
neither; their percentiles are put side by side, and agree where their 95 % intervals overlap. The
two draw schedules of their own, and a queue remembers: with one round, an interval is too narrow.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from bench.latencies import percentile_label
from rankers.errors import UserError

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


@click.command()
@click.argument("target")
@click.option("--rate", type=float, default=50.0, show_default=True, help="Arrivals per second.")
@click.option("--seconds", type=int, default=10, show_default=True, help="Of each turn.")
@click.option("--rounds", type=int, default=2, show_default=True, help="Turns of each.")
@click.option("--workload", default="interactive", show_default=True, help="What to send.")
def main(target: str, rate: float, seconds: int, rounds: int, workload: str) -> None:
    """Compare Locust with `bench run` on a served TARGET."""
    for number in range(rounds):
        ours = _bench(target, rate, seconds, workload, seed=number)
        theirs = _locust(target, rate, seconds, workload, seed=number)
        for quantile in sorted(set(ours) & set(theirs)):
            one, other = ours[quantile], theirs[quantile]
            agree = one["low_us"] <= other["high_us"] and other["low_us"] <= one["high_us"]
            click.echo(
                f"round {number + 1}  {percentile_label(quantile):6} bench {_text(one)}   "
                f"locust {_text(other)}   {'agree' if agree else 'differ'}"
            )


def _bench(target: str, rate: float, seconds: int, workload: str, *, seed: int) -> dict[float, Any]:
    count = round(rate * seconds)
    said = _run(
        *("bench", "run", target, "--workload", workload, "--rate", str(rate)),
        *("--count", str(count), "--seed", str(seed), "--json"),
    )
    return {each["quantile"]: each for each in json.loads(said)["response"]["percentiles"]}


def _locust(
    target: str, rate: float, seconds: int, workload: str, *, seed: int
) -> dict[float, Any]:
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        _run(
            *("locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary"),
            *("--host", target, "--workload", workload, "--rate", str(rate)),
            *("--run-time", f"{seconds}s", "--draw-seed", str(seed)),
            *("--ranking-json", str(figures)),
        )
        return {each["quantile"]: each for each in json.loads(figures.read_text())["response"]}


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{arguments[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def _text(percentile: dict[str, float]) -> str:
    value, low, high = (percentile[each] / 1e3 for each in ("value_us", "low_us", "high_us"))
    return f"{value:6.2f} ms ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
