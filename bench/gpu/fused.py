"""The fused kernel beside its twin: tables of a DLRM far larger than the cache, each row width."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bench.gpu.cells import Cell
    from bench.gpu.worker import Settings

_FEATURES, _DIMENSION, _LENGTH = 26, 128, 1
_LIMIT = 1e-3  # of the deviation of the float64 twin's values, of the same codes


def run_fused(cell: Cell, settings: Settings, tell: Any) -> tuple[str, str]:
    """Hold a cell's kernel against float64 at every number of rows, then time it.

    Args:
        cell: Its precision is the width of a row in the tables.
        settings: As of `bench.gpu.worker.run`.
        tell: Gets what is found.

    Returns:
        The cell's status, and why.
    """
    import torch

    from bench.gpu.timing import event_times
    from optimize.kernels.lookup_dots import Dots, bytes_moved, lookup_dots_reference
    from optimize.kernels.stacked_tables import stack_tables

    random = torch.Generator().manual_seed(0)
    features = 4 if settings.quick else _FEATURES
    rows = 50 if settings.quick else 100_000
    dimension = 16 if settings.quick else _DIMENSION
    weights = [torch.randn(rows, dimension, generator=random) for _ in range(features)]
    width: Any = cell.precision
    on_host = stack_tables(weights, width, length=_LENGTH)
    dots = Dots.below_diagonal(features + 1)
    out = dimension + dots.count
    tables = on_host.to(settings.device)
    function = _function(cell.runtime, settings.device)
    given: Any = {"seconds": settings.seconds, "count": settings.count}
    worst = 0.0
    cases = {}
    for count in settings.rows:
        drawn = [
            (
                torch.randint(0, rows, (count, features * _LENGTH), generator=random),
                torch.randn(count, 1, dimension, generator=random),
            )
            for _ in range(4)
        ]
        cases[count] = drawn
        ids, bottom = drawn[0]
        expected = lookup_dots_reference(on_host, ids, bottom, dots).double()
        found = function(tables, ids.to(settings.device), bottom.to(settings.device), dots)
        error = (found.cpu().double() - expected).abs().max() / expected.std()
        worst = max(worst, float(error)) if bool(error.isfinite()) else float("inf")
    tell(cell, "rows", correctness={"error_in_deviations": worst, "limit": _LIMIT})
    if not worst <= _LIMIT:
        return "wrong", f"values are off by {worst:.2g} of their deviation"
    for count, drawn in cases.items():
        moved = [(ids.to(settings.device), bottom.to(settings.device)) for ids, bottom in drawn]
        calls: list[Callable[[], Tensor]] = [
            partial(function, tables, *each, dots) for each in moved
        ]
        times = event_times(calls, settings.device, **given)
        found_here = {"on_device": times.to_json(), "with_copies": times.to_json()}
        rate = bytes_moved(on_host, drawn[0][0], out, dimension) / times.p50_us * 1e6
        floor: dict[str, float] = {"bytes_per_s": rate}
        if settings.ceilings:
            best = (
                bytes_moved(on_host, drawn[0][0], out, dimension)
                / settings.ceilings["copy_bytes_per_s"]
                * 1e6
            )
            best += settings.ceilings["launch_us"]
            floor |= {"floor_us": best, "times_floor": times.p50_us / best}
            floor["of_copy_bandwidth"] = rate / settings.ceilings["copy_bytes_per_s"]
        tell(cell, "rows", rows=count, floor=floor, **found_here)
    return "ok", ""


def _function(runtime: str, device: str) -> Callable[..., Tensor]:
    import torch

    if runtime == "fused kernel":
        if device == "cpu":
            os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported: there is no other way
        from optimize.kernels.lookup_dots import lookup_dots

        return lookup_dots
    from optimize.kernels.lookup_dots import lookup_dots_reference

    compiled = runtime == "twin, compiled"
    function: Any = (
        torch.compile(lookup_dots_reference, dynamic=True) if compiled else lookup_dots_reference
    )
    made: Callable[..., Tensor] = function
    return made
