"""A cell behind the embedded Triton server: closed loop, then arrivals that do not wait for it.

The program goes through what users have: captured in buckets, deployed for the Python backend,
served by a server of its own, and asked by our client over gRPC on the same machine. So a cell's
times have in them what the network's stack, the server, its queue and the client add.
"""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrivals import draw
from bench.gpu.cells import LIMITS
from bench.gpu.timing import Times
from bench.load import closed_loop, open_loop
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.gpu.cells import Cell
    from bench.load import LoadResult
    from bench.served import ServedTarget
    from optimize.artifact import Artifact
    from rankers.requests import RequestBatch

_MODEL = "suite"
_NEEDED = ("grpc", "tritonclient", "platformdirs", "psutil", "google.protobuf")
# Of the rate that the same requests had in a closed loop: as usual, and near the end.
SHARES = (0.5, 0.8)
_AT_ONCE = 8  # in the closed loop that finds that rate
_WORKERS = 64
_READY_S = 110.0


def missing_parts() -> str:
    """Say what a bare machine lacks for a served model; empty if nothing."""
    found = [name for name in _NEEDED if not _is_there(name)]
    return f"not installed: {', '.join(found)}; pip install -e . brings them" if found else ""


def run_served(
    cell: Cell,
    program: Artifact,
    requests: Mapping[int, Sequence[RequestBatch]],
    error: Callable[[int, Any], float],
    *,
    device: str,
    seconds: float,
    tell: Callable[..., None],
) -> tuple[str, str]:
    """Serve a program, hold its answers against what is expected, then load it.

    Args:
        cell: Which.
        program: Of `bench.gpu.paths.capture_program`.
        requests: By number of candidates, different ones of one user each.
        error: From a number of candidates and the first one's scores to how far they are off.
        device: ``cuda`` deploys for GPUs.
        seconds: For each load.
        tell: Gets events, as in `bench.gpu.worker`.

    Returns:
        The status and why.

    Raises:
        UserError: It cannot be deployed or served.
    """
    from bench.served import served_target

    missing = missing_parts()
    if missing:
        return "not run", missing
    with (
        tempfile.TemporaryDirectory(dir=program.folder.parent) as name,
        _serving(cell, program, tuple(requests), device, Path(name)) as url,
        closing(served_target(url, _MODEL, device=device)) as target,
    ):
        worst = max(error(rows, target(pool[0][0])) for rows, pool in requests.items())
        limit = LIMITS[cell.precision]
        tell(cell, "rows", correctness={"error_in_deviations": worst, "limit": limit})
        if not worst <= limit:
            # Nothing wrong is timed.
            return "wrong", (
                f"scores are off by {worst:.2g} of their deviation; the limit is {limit:g}"
            )
        for rows, pool in requests.items():
            tell(cell, "rows", rows=rows, **_load(target, pool, seconds))
    return "ok", ""


@contextmanager
def _serving(
    cell: Cell, program: Artifact, sizes: tuple[int, ...], device: str, folder: Path
) -> Iterator[str]:
    """Deploy the program in buckets of these sizes, and serve it while the caller has it."""
    from optimize.artifact import copy_model, seal
    from optimize.runtimes.cuda_graphs import SETTING, GraphOptions
    from optimize.triton.config import ServingOptions
    from optimize.triton.embedded import serve
    from optimize.triton.repository import deploy

    options = GraphOptions(sizes=sizes, precision=cell.precision)  # type: ignore[arg-type]
    (folder / "artifact").mkdir()
    copy_model(program, folder / "artifact")
    settings = {SETTING: options.to_json()}
    artifact = seal(folder / "artifact", replace(program.manifest, settings=settings))
    serving = ServingOptions(
        instances=2,
        max_candidates=max(sizes),
        warm_up_candidates=sizes,
        # Arrivals are limited here, and no request is ever forgotten for half a second
        # (docs/decisions/004-bounded-queues-stall.md).
        queue_size=0,
        accelerator="cuda" if device == "cuda" else "none",
    )
    deploy(artifact, folder / "models", _MODEL, options=serving)
    with serve(
        folder / "models",
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        log_file=folder / "log",
        ready_timeout_s=_READY_S,
    ) as server:
        yield server.grpc_url


def _load(target: ServedTarget, pool: Sequence[RequestBatch], seconds: float) -> dict[str, Any]:
    """Return times of one caller, the rate of several, and times at shares of that rate."""
    prepared = [target.prepare(each[0]) for each in pool]
    alone = closed_loop(target, prepared, concurrency=1, duration_s=seconds, warmup=20)
    several = closed_loop(target, prepared, concurrency=_AT_ONCE, duration_s=seconds, warmup=20)
    _no_errors(alone, several)
    most = several.ok / several.duration_s
    return {
        "with_copies": Times.of((alone.response_s * 1e6).tolist()).to_json(),
        "closed_loop": {"callers": _AT_ONCE, "requests_per_s": most},
        "open_loop": [_open(target, prepared, share, share * most, seconds) for share in SHARES],
    }


def _open(
    target: ServedTarget, prepared: Sequence[Any], share: float, rate: float, seconds: float
) -> dict[str, Any]:
    """Send Poisson arrivals; each counts from when it was due."""
    schedule = draw("poisson", rate, count=max(10, round(rate * seconds)), seed=0)
    found = open_loop(target, prepared, schedule_s=schedule, workers=_WORKERS, warmup=_WORKERS)
    _no_errors(found)
    lag = np.quantile(found.lag_s, 0.99) if len(found.lag_s) else 0.0
    return {
        "share": share,
        "rate_per_s": rate,
        "response": Times.of((found.response_s * 1e6).tolist()).to_json(),
        "late": found.late,
        "dropped": found.dropped,
        "generator_lag_p99_us": float(lag) * 1e6,
    }


def _no_errors(*results: LoadResult) -> None:
    for each in results:
        if each.errors or not each.ok:
            said = "; ".join(each.error_messages) or "none was answered"
            raise UserError(f"{each.errors} requests failed under load: {said}")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of the package above it
        return False
