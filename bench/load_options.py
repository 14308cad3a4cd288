"""Options of the command line as a load and a workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.arrival_trace import load_trace
from bench.arrivals import replayed_file, trace_rate
from bench.measure import Load
from bench.request_log import load_log
from bench.workload import draw_workload, make_workload
from bench.workload_recipe import load_recipe
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.targets import Target
    from bench.workload import Workload
    from rankers.requests import RequestBatch


def read_load(
    *, count: int | None, duration: float | None, rate: float | None, **options: Any
) -> Load:
    """Read how requests are sent. A replayed trace has a rate and a count of its own.

    Raises:
        UserError: Options contradict each other, or one of them is wrong.
    """
    pattern, speed = options["arrivals"], options["speed"]
    replayed = replayed_file(pattern) if pattern is not None else None
    if speed is not None and (replayed is None or rate is not None):
        raise UserError("--speed is of --arrivals replay:FILE, and in place of --rate")
    if replayed is not None:
        trace = load_trace(replayed)
        rate = trace_rate(trace) * (1 if speed is None else speed) if rate is None else rate
        count = len(trace) if count is None and duration is None else count
    elif pattern is not None and rate is None:
        raise UserError(f"--arrivals {pattern} needs a --rate: without one the loop is closed")
    return Load(
        count=2000 if count is None and duration is None else count,
        duration_s=duration,
        concurrency=options["concurrency"],
        rate_per_s=rate,
        pattern="poisson" if pattern is None else pattern,
        workers=options["workers"],
        warmup=options["warmup"],
        seed=options["seed"],
    )


def choose_workload(
    targets: Sequence[Target],
    *,
    requests: Path | None,
    workload: str | None,
    candidates: int | None,
    seed: int,
    **_: Any,
) -> Workload:
    """Draw what is sent: made up, from a file, or the first target's own requests.

    Raises:
        UserError: Options contradict each other, or there is nothing to send.
    """
    signature = _first(targets, "signature")
    if workload is not None:
        if requests is not None or candidates is not None:
            raise UserError("--workload says what is sent: leave out --requests and --candidates")
        return make_workload(load_recipe(workload), signature, seed=seed)
    log: RequestBatch | None = (
        load_log(requests, signature) if requests is not None else _first(targets, "evaluation")
    )
    if log is None:
        raise UserError(
            "no target brings requests of its own: make some up with --workload interactive, or "
            "give a file with --requests"
        )
    return draw_workload(log, candidates=candidates, seed=seed)


def _first(targets: Sequence[Target], attribute: str) -> Any:
    """Return what the first target that has it says."""
    found = (getattr(target, attribute, None) for target in targets)
    return next((each for each in found if each is not None), None)
