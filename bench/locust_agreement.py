"""Does Locust say what ``bench run`` says? ``python -m bench.locust_agreement grpc://…/model``.

Both send the same workload at the same Poisson rate, in turn and in an order drawn for each round,
so that a noisy machine is unfair to neither. Whether they agree is judged by rounds, not by
requests, for those of one round are alike: the ratio of their percentiles has a 95 % interval over
the rounds (Student's, of its logarithm), and they agree where 1 lies in it. Both must also have
sent the load: the number of requests of a Poisson process, less than four deviations off.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.latencies import percentile_label
from rankers.command_line import fail, json_option, print_json
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = "rankserve-validation-locust-agreement"
_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_DEVIATIONS = 4
# Locust's streams take a moment to begin, of a run that ends on time.
_START_S = 0.5


@click.command()
@click.argument("target")
@click.option("--rate", type=float, default=50.0, show_default=True, help="Arrivals per second.")
@click.option("--seconds", type=int, default=10, show_default=True, help="Of each turn.")
@click.option("--rounds", type=click.IntRange(min=2), default=6, show_default=True,
              help="Turns of each.")  # fmt: skip
@click.option("--workload", default="interactive", show_default=True, help="What to send.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of loads and order.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    *, target: str, rate: float, seconds: int, rounds: int, workload: str, seed: int,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare Locust with `bench run` on a served TARGET."""
    random = np.random.default_rng(seed)
    turns: dict[str, list[dict[str, Any]]] = {"bench": [], "locust": []}
    for number in range(rounds):
        for who in random.permutation(list(turns)).tolist():
            measure = _bench if who == "bench" else _locust
            turns[who].append(measure(target, rate, seconds, workload, seed=seed + number))
            click.echo(f"round {number + 1}  {who:7} {_text(turns[who][-1])}", err=True)
    expected = rate * seconds
    result: dict[str, Any] = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.locust_agreement {target} --rate {rate:g} --seconds {seconds} "
        f"--rounds {rounds} --workload {workload} --seed {seed}",
        "expected_requests": expected,
        "turns": turns,
        "sent_the_load": {
            who: all(_is_poisson(each["requests"], expected, rate) for each in said)
            for who, said in turns.items()
        },
        "ratios": agreement(turns["bench"], turns["locust"]),
    }
    if out is not None:
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    if as_json:
        print_json(result)
        return
    for who, is_so in result["sent_the_load"].items():
        click.echo(f"{who} {'sent the load' if is_so else 'did not send the load'}")
    for each in result["ratios"]:
        click.echo(
            f"{percentile_label(each['quantile'])}: locust ÷ bench {each['value']:.3f} "
            f"({each['low']:.3f}-{each['high']:.3f}) over {each['rounds']} rounds: "
            f"{'agree' if each['agree'] else 'differ'}"
        )


def agreement(
    ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the ratio of each percentile that all rounds have, its interval, and the verdict.

    Args:
        ours: Of each round, ``percentiles_us``: values by quantile.
        theirs: The same, of the same rounds.
    """
    from scipy.stats import t

    common = set.intersection(*(set(each["percentiles_us"]) for each in (*ours, *theirs)))
    found = []
    for quantile in sorted(common):
        logs = [
            math.log(other["percentiles_us"][quantile] / one["percentiles_us"][quantile])
            for one, other in zip(ours, theirs, strict=True)
        ]
        half = t.ppf(0.975, len(logs) - 1) * np.std(logs, ddof=1) / math.sqrt(len(logs))
        middle = float(np.mean(logs))
        found.append(
            {
                "quantile": quantile,
                "value": math.exp(middle),
                "low": math.exp(middle - half),
                "high": math.exp(middle + half),
                "rounds": len(logs),
                "agree": bool(abs(middle) <= half),
            }
        )
    return found


def _is_poisson(requests: int, expected: float, rate: float) -> bool:
    return abs(requests - expected) <= _DEVIATIONS * math.sqrt(expected) + _START_S * rate


def _bench(target: str, rate: float, seconds: int, workload: str, *, seed: int) -> dict[str, Any]:
    said = json.loads(
        _run(
            *("bench", "run", target, "--workload", workload, "--rate", str(rate)),
            *("--count", str(round(rate * seconds)), "--seed", str(seed), "--json"),
        )
    )
    counts = said["counts"]
    return {
        "requests": counts["sent"] + counts["dropped"],
        "failed": counts["errors"] + counts["dropped"],
        "candidates_per_request": counts["candidates"] / max(1, counts["ok"]),
        "percentiles_us": _values(said["response"]["percentiles"]),
    }


def _locust(target: str, rate: float, seconds: int, workload: str, *, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        _run(
            *("locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary"),
            *("--host", target, "--workload", workload, "--rate", str(rate)),
            *("--run-time", f"{seconds}s", "--draw-seed", str(seed)),
            *("--ranking-json", str(figures)),
        )
        said = json.loads(figures.read_text())
    return {
        "requests": said["requests"],
        "failed": said["failed"],
        "candidates_per_request": said["candidates_per_s"] / max(1e-9, said["requests_per_s"]),
        "percentiles_us": _values(said["response"]),
    }


def _values(percentiles: Sequence[dict[str, float]]) -> dict[float, float]:
    return {each["quantile"]: each["value_us"] for each in percentiles}


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        fail(f"{arguments[0]} failed: {said[-1] if said else 'without a word'}")
    return done.stdout


def _text(turn: dict[str, Any]) -> str:
    values = ", ".join(
        f"{percentile_label(quantile)} {value / 1e3:.3g} ms"
        for quantile, value in turn["percentiles_us"].items()
    )
    return f"{turn['requests']:,} requests, {values}"


if __name__ == "__main__":
    main()
