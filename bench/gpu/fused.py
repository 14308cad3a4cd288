"""The fused kernels beside their twins: tables far larger than the cache, each row width.

A gather's bytes are the rows that it reads, the IDs and the vectors that it writes: at many rows a
kernel can be no faster than the memory, whose bandwidth a copy of the same run says.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.gpu.cells import BAGS, DOTS, FUSED_KERNEL, GATHER_ROWS, LEAST_OF_COPY

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bench.gpu.cells import Cell
    from bench.gpu.worker import Settings
    from optimize.kernels.lookup_dots import Dots
    from optimize.kernels.stacked_tables import StackedTables

_FEATURES, _DIMENSION, _BAG = 26, 128, 8
_LIMIT = 1e-3  # of the deviation of the values in float64, of the same codes
_COMPARED = 256  # rows of a size: each is computed alone
_DRAWN = 4  # different IDs of a size


@dataclass(frozen=True)
class _Case:
    """What a cell computes.

    Attributes:
        tables: On the host.
        dots: None for vectors alone.
        length: L, of each bag.
    """

    tables: StackedTables
    dots: Dots | None
    length: int

    def draw(self, rows: int, random: Any) -> list[Tensor]:
        """Return random inputs: IDs, and for dots a given vector."""
        import torch

        of_table = int(self.tables.layout[2, 0])
        shape = (rows, self.tables.features * self.length)
        ids = torch.randint(0, of_table, shape, generator=random)
        if self.dots is None:
            return [ids]
        return [ids, torch.randn(rows, 1, self.tables.dimension, generator=random)]

    def exact(self, given: list[Tensor]) -> Tensor:
        """Return in float64 what is to come out."""
        import torch

        ids = given[0].view(len(given[0]), self.tables.features, self.length)
        (region,) = self.tables.region_list()
        start = self.tables.layout[1][:, None]
        vectors = self.tables.look_up(region, ids + start).double().sum(2)
        if self.dots is None:
            return vectors
        first = given[1].double()
        vectors = torch.cat([first, vectors], 1)
        lower, upper = torch.tril_indices(vectors.shape[1], vectors.shape[1], offset=-1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        return torch.cat([first[:, 0], products[:, lower, upper]], 1)

    def bytes_of(self, given: list[Tensor]) -> int:
        """Return the fewest bytes that have to move."""
        from optimize.kernels.lookup_dots import bytes_moved

        dimension = self.tables.dimension
        if self.dots is None:
            return bytes_moved(self.tables, given[0], self.tables.features * dimension)
        return bytes_moved(self.tables, given[0], dimension + self.dots.count, dimension)


def run_fused(cell: Cell, settings: Settings, tell: Any) -> tuple[str, str]:
    """Hold a cell's kernel against float64 at every number of rows, then time it.

    Args:
        cell: Its precision is the width of a row in the tables.
        settings: As of `bench.gpu.worker.run`; gathers alone have numbers of rows of their own.
        tell: Gets what is found.

    Returns:
        The cell's status, and why.
    """
    import torch

    random = torch.Generator().manual_seed(0)
    case = _case(cell, settings, random)
    tables = case.tables.to(settings.device)
    function = _function(cell, case, tables, settings.device)
    sizes = settings.rows if settings.quick or case.dots is not None else GATHER_ROWS
    drawn = {rows: [case.draw(rows, random) for _ in range(_DRAWN)] for rows in sizes}
    worst = max(_error(case, function, inputs[0], settings.device) for inputs in drawn.values())
    tell(cell, "rows", correctness={"error_in_deviations": worst, "limit": _LIMIT})
    if not worst <= _LIMIT:
        return "wrong", f"values are off by {worst:.2g} of their deviation"
    shares = []
    for rows, inputs in drawn.items():
        found = _measure(case, function, inputs, settings)
        tell(cell, "rows", rows=rows, **found)
        shares.append(found["floor"].get("of_copy_bandwidth"))
    return "ok", _verdict(cell, case, shares[-1])


def _case(cell: Cell, settings: Settings, random: Any) -> _Case:
    import torch

    from optimize.kernels.lookup_dots import Dots
    from optimize.kernels.stacked_tables import stack_tables

    features, rows, dimension = (4, 50, 16) if settings.quick else (_FEATURES, 100_000, _DIMENSION)
    weights = [torch.randn(rows, dimension, generator=random) for _ in range(features)]
    length = _BAG if cell.ranker == BAGS else 1
    width: Any = cell.precision
    tables = stack_tables(weights, width, length=length)
    dots = Dots.below_diagonal(features + 1) if cell.ranker == DOTS else None
    return _Case(tables, dots, length)


def _error(case: _Case, function: Callable[..., Tensor], given: list[Tensor], device: str) -> float:
    """Return how far some rows of a whole call are from float64, in its deviations."""
    import torch

    rows = torch.linspace(0, len(given[0]) - 1, min(_COMPARED, len(given[0]))).long()
    expected = case.exact([each[rows] for each in given])
    found = function(*(each.to(device) for each in given))[rows.to(device)].cpu().double()
    error = (found - expected).abs().max() / expected.std()
    return float(error) if bool(error.isfinite()) else float("inf")


def _measure(
    case: _Case, function: Callable[..., Tensor], inputs: list[list[Tensor]], settings: Settings
) -> dict[str, Any]:
    from functools import partial

    from bench.gpu.timing import event_times

    moved = [[each.to(settings.device) for each in given] for given in inputs]
    calls = [partial(function, *given) for given in moved]
    times = event_times(calls, settings.device, seconds=settings.seconds, count=settings.count)
    size = case.bytes_of(inputs[0])
    floor: dict[str, float] = {"bytes_per_s": size / times.p50_us * 1e6}
    if settings.ceilings:
        copy = settings.ceilings["copy_bytes_per_s"]
        best = size / copy * 1e6 + settings.ceilings["launch_us"]
        floor |= {"floor_us": best, "times_floor": times.p50_us / best}
        floor["of_copy_bandwidth"] = floor["bytes_per_s"] / copy
    return {"floor": floor, "on_device": times.to_json(), "with_copies": times.to_json()}


def _verdict(cell: Cell, case: _Case, share: float | None) -> str:
    """Say what a gather reaches of the copy bandwidth at the most rows, and what it should."""
    if share is None or case.dots is not None or cell.runtime != FUSED_KERNEL:
        return ""
    said = "reaches" if share >= LEAST_OF_COPY else "misses"
    return f"{share:.0%} of the copy bandwidth at the most rows: {said} the {LEAST_OF_COPY:.0%}"


def _function(cell: Cell, case: _Case, tables: StackedTables, device: str) -> Callable[..., Tensor]:
    """Return what is called with the inputs alone."""
    import torch

    from optimize.kernels import lookup_dots as kernels

    fused = cell.runtime == FUSED_KERNEL
    if fused and device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported: there is no other way
    dots = case.dots
    if dots is None:
        vectors = kernels.lookup_vectors if fused else kernels.lookup_vectors_reference
        return lambda ids: vectors(tables, ids)
    function: Any = kernels.lookup_dots if fused else kernels.lookup_dots_reference
    if cell.runtime == "twin, compiled":
        function = torch.compile(function, dynamic=True)
    return lambda ids, given: function(tables, ids, given, dots)
