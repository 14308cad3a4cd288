"""Many tables in one buffer, whose rows are held as `optimize.tables` holds them.

::

    data   uint8 [bytes]:  fp32 rows | fp16 rows | int8 rows | their levels | int4 rows | levels

Rows of one width lie together, a *region*, so that a row is found by its number there. A region
that holds nothing is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import torch

from optimize.tables.codes import (
    Bits,
    Codes,
    decode,
    encode,
    part_of_columns,
    parts_of,
    scale_levels,
)
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

RowWidth = Literal["fp32", "fp16", "int8", "int4"]
KINDS: dict[RowWidth, int] = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
BITS: dict[int, Bits] = {8: 8, 4: 4}
_FLOATS = {32: torch.float32, 16: torch.float16}
_ALIGNED = 128  # bytes: where a region starts
# Marks that no ID of a feature stands for an empty place.
NOTHING = -(2**62)
# The rows of a layout.
KIND, START, ROWS, FIRST, LENGTH, EMPTY = range(6)


@dataclass(frozen=True, eq=False)
class HeldRows:
    """One table as it is held.

    Attributes:
        kind: Bits of a value, of `KINDS`.
        data: ``[R, D]`` floats or int8 codes; of int4 ``[R, ceil(D / 2)]`` (`optimize.tables.
            codes`).
        levels: uint8 ``[R, G]``: the numbers of the scales of each row's parts; None of floats.
    """

    kind: int
    data: Tensor
    levels: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Reads:
    """What a feature reads.

    Attributes:
        table: Features of one table have the same one here.
        length: L, of its bag; 1 for a single ID.
        empty: The ID that stands for an empty place of the bag; `NOTHING` if none does.
    """

    table: HeldRows
    length: int = 1
    empty: int = NOTHING


@dataclass(frozen=True, slots=True)
class Region:
    """Where rows of one width lie in the buffer."""

    kind: int
    start: int  # bytes
    rows: int

    def row_bytes(self, dimension: int) -> int:
        """Of a row's values, without its levels."""
        even = dimension + dimension % 2 if self.kind == KINDS["int4"] else dimension
        return self.kind * even // 8

    def levels_start(self, dimension: int) -> int:
        """Where the levels of its rows start, in bytes."""
        return _align(self.start + self.rows * self.row_bytes(dimension))


@dataclass(frozen=True)
class StackedTables:
    """Tables of one width D in one buffer, and what F features read of them.

    Attributes:
        data: uint8 ``[bytes]``.
        scales: float32 ``[256]``, shared by all rows in codes; empty if there are none.
        parts: int32 ``[2, D]``: the part of a row that each column is in, of int8 and of int4.
        layout: int64 ``[6, F]``: each feature's kind, the row of its region at which its table
            starts, how many rows that has, its first place among the IDs, how many it has, and the
            ID of an empty place.
        regions: Three numbers for each `Region`.
        longest: The most IDs that a feature has.
    """

    data: Tensor
    scales: Tensor
    parts: Tensor
    layout: Tensor
    regions: tuple[int, ...]
    longest: int

    def to(self, device: str) -> StackedTables:
        """Return the same on a device."""
        names = ("data", "scales", "parts", "layout")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def dimension(self) -> int:
        """D."""
        return self.parts.shape[1]

    @property
    def features(self) -> int:
        """F."""
        return self.layout.shape[1]

    def region_list(self) -> list[Region]:
        """Return the regions."""
        numbers = list(self.regions)
        return [Region(*numbers[at : at + 3]) for at in range(0, len(numbers), 3)]

    def values_of(self, region: Region) -> Tensor:
        """Return a region's rows as they are held: a view ``[rows, D]``, of int4 of half as many.

        Codes are int8.
        """
        size = region.row_bytes(self.dimension)
        held = self.data[region.start : region.start + region.rows * size]
        return held.view(_FLOATS.get(region.kind, torch.int8)).view(region.rows, -1)

    def levels_of(self, region: Region) -> Tensor:
        """Return a region's levels, a view uint8 ``[rows, G]``; of floats empty."""
        if region.kind not in BITS:
            return self.data[:0].view(0, 1)
        parts, start = self.part_count(region.kind), region.levels_start(self.dimension)
        return self.data[start : start + region.rows * parts].view(region.rows, parts)

    def part_count(self, kind: int) -> int:
        """Return how many scales a row in codes has."""
        return len(parts_of(self.dimension, BITS[kind]))

    def look_up(self, region: Region, rows: Tensor) -> Tensor:
        """Return rows of a region as floats, in plain torch: float32 ``[…, D]``."""
        data = self.values_of(region)[rows]
        if region.kind not in BITS:
            return data.float()
        levels = self.levels_of(region)[rows].reshape(rows.numel(), -1)
        flat = Codes(data.reshape(-1, data.shape[-1]), levels)
        values = decode(flat, BITS[region.kind], self.scales[:, None], self.dimension)
        return values.reshape(*rows.shape, self.dimension)

    def bytes_of_rows(self, ids: Tensor) -> int:
        """Return what reading the rows of IDs ``[N, ΣL]`` moves."""
        moved = 0
        for kind, _, _, first, length, empty in self.layout.T.tolist():
            row = Region(kind, 0, 0).row_bytes(self.dimension)
            row += self.part_count(kind) if kind in BITS else 0
            moved += row * int((ids[:, first : first + length] != empty).sum())
        return moved


def stack_tables(
    weights: Sequence[Tensor], width: RowWidth | Sequence[RowWidth], *, length: int = 1
) -> StackedTables:
    """Put tables into one buffer, one for each feature.

    Args:
        weights: float32 ``[R, D]`` each, finite.
        width: Of all rows, or of each table's.
        length: L, of every feature's bag; the ID -1 is an empty place.

    Raises:
        UserError: They differ in D.
    """
    widths = [width] * len(weights) if isinstance(width, str) else list(width)
    kinds = [KINDS[each] for each in widths]
    coded = [(w, BITS[kind]) for w, kind in zip(weights, kinds, strict=True) if kind in BITS]
    scales = scale_levels(coded)[:, 0] if coded else torch.zeros(0)
    held = [hold_rows(w, kind, scales) for w, kind in zip(weights, kinds, strict=True)]
    dimensions = {each.shape[1] for each in weights}
    if len(dimensions) != 1:
        raise UserError(f"tables of widths {sorted(dimensions)}; expected one width")
    return stack_rows([Reads(each, length, -1) for each in held], dimensions.pop(), scales)


def hold_rows(weight: Tensor, kind: int, scales: Tensor) -> HeldRows:
    """Return a table ``[R, D]`` as it is held at a width; ``scales`` are those of codes."""
    if kind in _FLOATS:
        return HeldRows(kind, weight.detach().to(_FLOATS[kind]))
    codes = encode(weight.detach(), BITS[kind], scales[:, None])
    return HeldRows(kind, codes.codes, codes.levels)


def stack_rows(reads: Sequence[Reads], dimension: int, scales: Tensor) -> StackedTables:
    """Put tables as they are held into one buffer, each once.

    Args:
        reads: Of each feature in order.
        dimension: D, of all tables.
        scales: float32 ``[256]``; empty where there are no codes.
    """
    tables = list({id(each.table): each.table for each in reads}.values())
    regions: list[int] = []
    starts: dict[int, int] = {}
    pieces: list[Tensor] = []
    for kind in sorted({each.kind for each in tables}, reverse=True):
        mine = [each for each in tables if each.kind == kind]
        counts = [len(each.data) for each in mine]
        firsts = accumulate(counts, initial=0)
        starts |= {id(each): first for each, first in zip(mine, firsts, strict=False)}
        regions += [kind, sum(map(len, pieces)), sum(counts)]
        pieces.append(_bytes([each.data for each in mine]))
        levels = [each.levels for each in mine if each.levels is not None]
        pieces += [_bytes(levels)] if levels else []
    firsts = accumulate((each.length for each in reads), initial=0)
    layout = [
        [x.table.kind, starts[id(x.table)], len(x.table.data), first, x.length, x.empty]
        for x, first in zip(reads, firsts, strict=False)
    ]
    parts = [part_of_columns(dimension, BITS[kind]) for kind in (8, 4)]
    return StackedTables(
        data=torch.cat(pieces),
        scales=scales,
        parts=torch.stack(parts).to(torch.int32),
        layout=torch.tensor(layout, dtype=torch.int64).T.contiguous(),
        regions=tuple(regions),
        longest=max(each.length for each in reads),
    )


def _bytes(tensors: list[Tensor]) -> Tensor:
    flat = torch.cat([each.contiguous().view(torch.uint8).reshape(-1) for each in tensors])
    return torch.nn.functional.pad(flat, (0, _align(len(flat)) - len(flat)))


def _align(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
