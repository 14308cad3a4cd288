"""The least time a device could take: bytes over bandwidth, operations over rate, one launch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.requests import Columns

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True, slots=True)
class Work:
    """What a flat ranker has to do for some rows, whatever the runtime.

    Attributes:
        flops: Of matrix products, two for each multiply-add.
        table_bytes: Of the rows that are looked up, each as often as it is read, float32.
        weights: Values of all other parameters, each read once.
        io_bytes: Of the columns and the scores.
    """

    flops: int
    table_bytes: int
    weights: int
    io_bytes: int

    def bytes_at(self, precision: str) -> int:
        """Return all bytes that have to move through the device's memory."""
        return self.table_bytes + self.weights * _BYTES[precision] + self.io_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the work as JSON-ready data."""
        return asdict(self)


def work_at(few: Work, more: Work, rows: tuple[int, int], wanted: int) -> Work:
    """Return the work for any number of rows: all of it grows along a line.

    Args:
        few: For the first of ``rows``.
        more: For the second.
        rows: Of both.
        wanted: How many rows.
    """

    def grown(name: str) -> int:
        start, end = (float(getattr(each, name)) for each in (few, more))
        slope = (end - start) / (rows[1] - rows[0])
        return round(start + slope * (wanted - rows[0]))

    return Work(*(grown(name) for name in ("flops", "table_bytes", "weights", "io_bytes")))


def work_of(module: torch.nn.Module, columns: Columns) -> Work:
    """Count what a ranker does for flat columns, by running it on the CPU once."""
    from torch.utils.flop_counter import FlopCounterMode

    looked_up = 0

    def count(_: object, __: object, output: torch.Tensor) -> None:
        nonlocal looked_up
        looked_up += output.numel() * output.element_size()

    tables = [each for each in module.modules() if isinstance(each, torch.nn.Embedding)]
    hooks = [each.register_forward_hook(count) for each in tables]
    given = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in columns.items()}
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            scores = module(**given)
    finally:
        for each in hooks:
            each.remove()
    in_tables = {id(each.weight) for each in tables}
    weights = sum(each.numel() for each in module.parameters() if id(each) not in in_tables)
    io_bytes = sum(x.nbytes for x in columns.values()) + scores.numel() * 4
    return Work(counter.get_total_flops(), looked_up, weights, io_bytes)


def floor_us(work: Work, precision: str, ceilings: Mapping[str, float]) -> dict[str, float]:
    """Return the least time in microseconds, by what would take it.

    Args:
        work: What has to be done.
        precision: Of the products.
        ceilings: Of `bench.gpu.ceilings`, measured in the same run.
    """
    moving = work.bytes_at(precision) / ceilings["copy_bytes_per_s"] * 1e6
    computing = work.flops / ceilings[f"{precision}_flops_per_s"] * 1e6
    launch = ceilings["launch_us"]
    return {
        "bytes_us": moving,
        "flops_us": computing,
        "launch_us": launch,
        "floor_us": max(moving, computing) + launch,
    }
