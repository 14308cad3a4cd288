"""``python -m bench.validation.comparing``: how often `bench.compare` is right where that is known.

Simulated targets on a bad machine: latencies are log-normal with a Pareto tail, the machine's speed
drifts by tens of percent over a run, and it is slowed for stretches by half a round to several
rounds. One target is slower than the other by a known ratio, or is the same.

Where the tail is the machine's own, each target draws latencies of its own. Where it is the
requests', because some are much larger, both have it in the same requests, which `compare` sends to
both in each round, and only a twentieth of a latency is chance.

A difference of 5 % in the median is found with 5,000 requests of each. In the p99 of independent
latencies it cannot be: 50 of them lie above it and a target that is 5 % slower has some 64, which
chance does one time in ten. So it is also counted with how many requests the p99 alone tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

from bench.compare import COMPARED_QUANTILES, CONFIDENCE, compare_rounds
from bench.latencies import percentile_label
from bench.validation.result import hand_over
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from rankers.requests import Array

KIND = "rankserve-validation-comparing"
Tail = Literal["machine", "requests"]
_TAIL = 0.99
# What the p99 alone is tested with; each such comparison takes a second.
_LONG, _LONG_REPEATS = 50_000, 60


def simulated_rounds(
    random: np.random.Generator,
    slower_by: float,
    *,
    rounds: int,
    requests: int,
    tail: Tail = "machine",
) -> list[list[Array]]:
    """Simulate two targets in turn on a machine that drifts.

    Args:
        random: Where chance comes from.
        slower_by: The second target's latencies are this much longer: 0.05 is 5 %.
        rounds: Of both targets.
        requests: Of each target, over all rounds.
        tail: Whose it is: the ``machine``'s or the ``requests``'.

    Returns:
        For each target, for each round, latencies in seconds.
    """
    each = requests // rounds
    count = 2 * rounds * each
    if tail == "machine":
        seconds = _latencies(random, count)
    else:
        seconds = np.repeat(_latencies(random, count // 2).reshape(rounds, 1, each), 2, axis=1)
        seconds = seconds.reshape(-1) * random.lognormal(0, 0.05, count)
    turns = (seconds * _slowness(random, count)).reshape(rounds, 2, each)
    swapped = random.random(rounds) < 0.5
    turns[swapped] = turns[swapped, ::-1]
    return [list(turns[:, 0]), list(turns[:, 1] * (1 + slower_by))]


def count_verdicts(
    slower_by: float,
    *,
    repeats: int,
    rounds: int,
    requests: int,
    seed: int,
    tail: Tail = "machine",
) -> dict[str, Any]:
    """Compare simulated targets again and again, and count what was said of the second.

    Args:
        slower_by: As for `simulated_rounds`, like the rest.
        repeats: How many comparisons.
        rounds: Of each.
        requests: Of each target in each comparison.
        seed: Of the simulation.
        tail: Whose the tail is.
    """
    random = np.random.default_rng(seed)
    wanted: list[int] = []
    said: dict[str, dict[str, int]] = {
        name: dict.fromkeys(("faster", "slower", "cannot tell"), 0)
        for name in (*map(percentile_label, COMPARED_QUANTILES), "overall")
    }
    for _ in range(repeats):
        ratios = compare_rounds(
            simulated_rounds(random, slower_by, rounds=rounds, requests=requests, tail=tail),
            ("a", "b"),
        )
        wanted += [each.rounds_needed or each.rounds for each in ratios if each.quantile == _TAIL]
        answers = [ratio.verdict for ratio in ratios]
        for ratio, answer in zip(ratios, answers, strict=True):
            said[percentile_label(ratio.quantile)][answer] += 1
        wrong_first = sorted(set(answers) - {"cannot tell"})  # faster before slower: the error
        said["overall"][wrong_first[0] if wrong_first else "cannot tell"] += 1
    return {
        "slower_by": slower_by,
        "tail": tail,
        "repeats": repeats,
        "rounds": rounds,
        "requests": requests,
        "p99_needs_requests": int(np.median(wanted)) * requests // rounds if wanted else None,
        "verdicts": said,
    }


def _latencies(random: np.random.Generator, count: int) -> Array:
    seconds = 1e-3 * random.lognormal(0, 0.25, count)
    heavy = random.random(count) < 0.02
    seconds[heavy] *= 1 + random.pareto(2.0, int(heavy.sum()))
    return seconds


def _slowness(random: np.random.Generator, count: int) -> Array:
    """Return by how much the machine slows each request: a walk, a wave and bad stretches."""
    moment = np.linspace(0, 1, count)
    walk = 0.3 * np.cumsum(random.normal(0, 1, count)) / np.sqrt(count)
    wave = 0.3 * np.sin(2 * np.pi * (3 * moment + random.random()))
    slowness: Array = np.exp(walk + wave)
    for _ in range(random.poisson(5)):
        start = random.integers(count)
        slowness[start : start + random.integers(20, 400)] *= random.uniform(1.2, 2)
    return slowness


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--repeats", type=int, default=200, show_default=True, help="Of each difference.")
@click.option("--rounds", type=int, default=100, show_default=True, help="Of each comparison.")
@click.option("--requests", type=int, default=5000, show_default=True, help="Of each target.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the simulation.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    *, repeats: int, rounds: int, requests: int, seed: int, out: Path | None, as_json: bool
) -> None:
    """Count false alarms, and true differences of 5 % that were found."""
    size = requests // rounds
    plan: list[tuple[float, Tail, int, int]] = [
        (0.0, "machine", requests, repeats),
        (0.05, "machine", requests, repeats),
        (0.0, "requests", requests, repeats),
        (0.05, "requests", requests, repeats),
        (0.05, "machine", _LONG, min(repeats, _LONG_REPEATS)),
    ]
    checks = []
    for slower_by, tail, count, times in plan:
        found = count_verdicts(
            slower_by,
            repeats=times,
            rounds=count // size,
            requests=count,
            seed=seed,
            tail=tail,
        )
        checks.append(found)
        click.echo(
            f"slower by {slower_by:.0%}, {count:,} requests each, tail of the {tail}: "
            f"{found['verdicts']}; p99 is said to need {found['p99_needs_requests']:,}",
            err=as_json,
        )
    result = {
        "kind": KIND,
        "schema": 2,
        "command": f"python -m bench.validation.comparing --repeats {repeats} --rounds {rounds} "
        f"--requests {requests} --seed {seed}",
        "confidence": CONFIDENCE,
        "checks": checks,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
