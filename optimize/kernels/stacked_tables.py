"""Many tables as one, whose rows are held as `optimize.tables` holds them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from optimize.tables.codes import Bits, Codes, decode, encode, part_of_columns, scale_levels
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

RowWidth = Literal["fp32", "fp16", "int8", "int4"]
_BITS: dict[str, Bits] = {"int8": 8, "int4": 4}
_FLOATS = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class StackedTables:
    """F tables of one width D in one array.

    Attributes:
        width: How a row is held.
        dimension: D.
        data: ``[ΣR, D]`` floats or int8 codes; of int4 ``[ΣR, D / 2]`` (`optimize.tables.codes`).
        levels: uint8 ``[ΣR, G]``: the numbers of the scales of each row's parts; of floats empty.
        scales: float32 ``[256]``, shared by all rows; of floats empty.
        parts: int32 ``[D]``: the part of a row that each column is in.
        starts: int64 ``[F]``: the row at which each table starts.
        rows: R of each table.
    """

    width: RowWidth
    dimension: int
    data: Tensor
    levels: Tensor
    scales: Tensor
    parts: Tensor
    starts: Tensor
    rows: tuple[int, ...]

    def to(self, device: str) -> StackedTables:
        """Return the same on a device."""
        moved: dict[str, Any] = {
            each.name: value.to(device)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), torch.Tensor)
        }
        return replace(self, **moved)

    @property
    def row_bytes(self) -> int:
        """What reading one row moves."""
        row = self.data.shape[1] * self.data.element_size()
        return row + (self.levels.shape[1] if len(self.levels) else 0)


def stack_tables(weights: Sequence[Tensor], width: RowWidth) -> StackedTables:
    """Put tables side by side at a width.

    Args:
        weights: float32 ``[R, D]`` each, finite.
        width: Of all rows.

    Raises:
        UserError: They differ in D, or D is no power of 2 from 16: what a kernel's blocks are.
    """
    dimensions = {each.shape[1] for each in weights}
    (dimension,) = dimensions if len(dimensions) == 1 else (0,)
    if dimension < 16 or dimension & (dimension - 1):
        raise UserError(
            f"tables of widths {sorted(dimensions)}: the kernel takes one width, a power of 2 "
            "from 16"
        )
    rows = tuple(each.shape[0] for each in weights)
    starts = torch.tensor([0, *rows[:-1]]).cumsum(0)
    stacked = torch.cat([each.detach() for each in weights])
    if width in _FLOATS:
        return StackedTables(
            width, dimension, stacked.to(_FLOATS[width]), torch.zeros(0, 1, dtype=torch.uint8),
            torch.zeros(0), torch.zeros(dimension, dtype=torch.int32), starts, rows,
        )  # fmt: skip
    bits = _BITS[width]
    scales = scale_levels((each, bits) for each in weights)
    coded = encode(stacked, bits, scales)
    parts = part_of_columns(dimension, bits).to(torch.int32)
    return StackedTables(
        width, dimension, coded.codes, coded.levels, scales[:, 0].contiguous(), parts, starts, rows
    )


def look_up(tables: StackedTables, rows: Tensor) -> Tensor:
    """Return rows of the stacked array as floats, in plain torch: float32 ``[…, D]``."""
    data = tables.data[rows]
    if tables.width in _FLOATS:
        return data.float()
    flat = Codes(data.reshape(-1, data.shape[-1]), tables.levels[rows].reshape(rows.numel(), -1))
    values = decode(flat, _BITS[tables.width], tables.scales[:, None], tables.dimension)
    return values.reshape(*rows.shape, tables.dimension)
