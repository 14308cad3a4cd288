"""``python -m bench.validation.shared_cores``: what threads of a call cost when cores are shared.

Artifacts are measured with one thread a call and with one for each physical core, alone on the
machine and beside as many busy processes as there are cores. OpenMP's threads, which torch and
AOTInductor's code use, wait for each other by spinning: one that has no core holds up all of them.

    python -m bench.validation.shared_cores --ranker R --artifact FOLDER --out FILE
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.environment import environment
from bench.validation.openings import Opened, measure_openings
from bench.validation.result import hand_over
from rankers.command_line import CommandLine, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rankers.requests import Array

KIND = "rankserve-validation-shared-cores"
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep processes computing meanwhile; each ends with this one, however it does."""
    others = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for each in others:
            each.kill()
            each.wait()


def measure_shared(
    ranker: str,
    artifacts: Sequence[Path],
    *,
    candidates: int,
    rounds: int,
    seconds: float,
    cores: int,
) -> list[dict[str, Any]]:
    """Measure each artifact with one thread and with ``cores``, alone and beside busy processes.

    Args:
        ranker: As `rankers.ranker.load_ranker` takes it; its evaluation requests are sent.
        artifacts: Folders.
        candidates: Of every request, N.
        rounds: How often each has its turn, opened anew in a process of its own.
        seconds: Of a turn, about.
        cores: Physical ones.

    Returns:
        A line of percentiles each, JSON-ready.
    """
    cells = [(each, threads) for each in artifacts for threads in sorted({1, cores})]
    found: list[dict[str, Any]] = []
    for others in (0, cores):
        times: dict[tuple[Path, int], list[Array]] = {cell: [] for cell in cells}
        for _ in range(rounds):
            for folder, threads in cells:
                with busy_processes(others):
                    measured = measure_openings(
                        (Opened(folder.name, str(folder), threads),),
                        ranker,
                        candidates=candidates,
                        openings=1,
                        seconds=seconds,
                    )
                times[folder, threads] += measured.rounds[0]
        found += [
            {"others": others, "threads": threads} | _about(folder, np.concatenate(each))
            for (folder, threads), each in times.items()
        ]
    return found


def _about(folder: Path, seconds: Array) -> dict[str, Any]:
    from optimize.artifact import open_artifact

    manifest = open_artifact(folder).manifest
    p50, p99, worst = np.quantile(seconds * 1e3, (0.5, 0.99, 1))
    return {
        "format": manifest.format,
        "layout": manifest.layout,
        "requests": len(seconds),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "worst_ms": float(worst),
    }


def row(one: dict[str, Any]) -> str:
    """Return a row of the table in docs/runtimes.md."""
    beside = f"{one['others']} busy processes" if one["others"] else "nothing"
    times = " | ".join(f"{one[name]:.3g}" for name in ("p50_ms", "p99_ms"))
    return f"| `{one['format']}` | {one['threads']} | {beside} | {times} |"


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option("--ranker", required=True, help="Whose evaluation requests are sent.")
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="What is measured; several are allowed.",
)
@click.option("--candidates", type=click.IntRange(1), default=200, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), default=5, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the result here, when all is measured."
)
@json_option
def main(
    *,
    ranker: str,
    artifacts: tuple[Path, ...],
    candidates: int,
    rounds: int,
    seconds: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure artifacts with one thread and with more, alone and beside busy processes."""
    from optimize.runtimes import physical_cores

    found = measure_shared(
        ranker,
        artifacts,
        candidates=candidates,
        rounds=rounds,
        seconds=seconds,
        cores=physical_cores(),
    )
    for each in found:
        click.echo(row(each), err=as_json)
    settings = f"--candidates {candidates} --rounds {rounds}"
    result = {
        "kind": KIND,
        "schema": 1,
        "command": f"python -m bench.validation.shared_cores {settings}",
        "environment": environment().to_json(),
        "cores": physical_cores(),
        "candidates": candidates,
        "measured": found,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
