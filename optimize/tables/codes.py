"""Rows in few bits: whole numbers, and a scale a row, or one for each part of a wide row.

Scales are numbers of *levels*, of which there are 256 in geometric progression, shared by all
tables of a program: one byte each, where a float of its own would take two or four. Each part takes
the level, of those near what its largest value asks for, at which the squares of its errors sum up
to least. So a row with an outlier costs no other row anything, and zeros stay zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

Bits = Literal[8, 4]

LEVELS = 256
# How many of them are spread over the whole range.
_SPREAD = 96
# Scales further below the largest than this (logarithm of a ratio) are taken for this.
_WIDEST = 22.0
# Scales tried beside the one that just holds a row's largest value: the smallest, as a share of it.
# With 4 bits it pays to clip that value so that the others come out finer.
_LEAST_SHARE: dict[Bits, float] = {8: 0.94, 4: 0.6}
# And the largest: the grid may fit the other values better.
_MOST_SHARE = 1.04
_TRIED = 16
_CHUNK = 1 << 22  # values at a time
# A scale serves so many columns at least: with more scales than these allow, tables in 8 bits would
# be less than 3.9 times smaller than floats, and those in 4 bits less than 7.
_LEAST_COLUMNS: dict[Bits, int] = {8: 39, 4: 16}


@dataclass(frozen=True)
class Codes:
    """A table as codes.

    Attributes:
        codes: int8 ``[rows, D]``; of 4 bits int8 ``[rows, ceil(D / 2)]``, see `pack`.
        levels: uint8 ``[rows, G]``: the numbers of the scales of each row's G parts.
    """

    codes: Tensor
    levels: Tensor


def scale_levels(tables: Iterable[tuple[Tensor, Bits]]) -> Tensor:
    """Return scales, float32 ``[256, 1]`` in ascending order, that serve all of some tables.

    Most of them are where most rows of each table ask for them, the rest spread evenly, so that
    rows far larger or smaller than others are served too.

    Args:
        tables: ``[rows, D]`` each, finite, and the bits that each is to have.
    """
    asked = [each for weight, bits in tables for each in _asked(weight, bits)]
    wanted = torch.cat(asked).sort().values if asked else torch.zeros(0)
    if not len(wanted):
        return torch.ones(LEVELS, 1)
    most = float(wanted[-1]) + math.log(_MOST_SHARE)
    least = max(float(wanted[0]) + math.log(min(_LEAST_SHARE.values())), most - _WIDEST)
    spread = torch.linspace(least, most, _SPREAD, dtype=torch.float64)
    crowded = _quantiles(wanted.clamp_min(least), LEVELS - _SPREAD)
    scales = torch.cat([spread, crowded]).sort().values.exp().float()
    return scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]


def encode(weight: Tensor, bits: Bits, scales: Tensor) -> Codes:
    """Return a table as codes, each row at its best scale.

    Args:
        weight: ``[rows, D]``, finite.
        bits: Of each value.
        scales: As `scale_levels` gives them for this table and others.
    """
    columns = parts_of(weight.shape[1], bits)
    coded = []
    for rows in _chunks(weight):
        parts = [_encode(rows[:, each].float(), bits, scales[:, 0]) for each in columns]
        coded.append([torch.cat(x, 1) for x in zip(*parts, strict=True)])
    codes, levels = (torch.cat(x) for x in zip(*coded, strict=True))
    return Codes(pack(codes) if bits == 4 else codes, levels)


def parts_of(width: int, bits: Bits) -> list[slice]:
    """Return the columns of each part of a row that has a scale of its own, about as many each."""
    count = max(1, width // _LEAST_COLUMNS[bits])
    ends = [width * each // count for each in range(count + 1)]
    return [slice(*each) for each in pairwise(ends)]


def part_of_columns(width: int, bits: Bits) -> Tensor:
    """Return the number of the part that each column is in, int64 ``[D]``."""
    sizes = torch.tensor([each.stop - each.start for each in parts_of(width, bits)])
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes)


def decode(codes: Codes, bits: Bits, scales: Tensor, width: int) -> Tensor:
    """Return the table that codes stand for, float32 ``[rows, D]``; D is ``width``."""
    values = unpack(codes.codes)[:, :width] if bits == 4 else codes.codes.float()
    return values * scales[codes.levels.long(), 0][:, part_of_columns(width, bits)]


def pack(codes: Tensor) -> Tensor:
    """Put two codes of 4 bits into a byte: the first half of a row beside the second.

    Args:
        codes: int8 ``[rows, D]``, -8 to 7.

    Returns:
        int8 ``[rows, ceil(D / 2)]``: ``16 · second + first + 8``. Arithmetic of floats takes it
        apart, which every runtime has; shifts of bytes are not exported to ONNX in one type.
    """
    half = (codes.shape[1] + 1) // 2
    padded = torch.nn.functional.pad(codes.to(torch.int16), (0, 2 * half - codes.shape[1]))
    return (16 * padded[:, half:] + padded[:, :half] + 8).to(torch.int8)


def unpack(packed: Tensor) -> Tensor:
    """Take bytes of `pack` apart: float32 ``[rows, 2 · ceil(D / 2)]``."""
    values = packed.float()
    second = (values / 16).floor()
    return torch.cat([values - 8 - 16 * second, second], 1)


def row_errors(weight: Tensor, decoded: Tensor) -> Tensor:
    """Return ``|decoded - row| / |row|`` of each row that is not all zeros, float64 ``[n]``."""
    parts = []
    for one, other in zip(_chunks(weight), _chunks(decoded), strict=True):
        norms = one.double().norm(dim=1)
        errors = (other.double() - one.double()).norm(dim=1)
        parts.append((errors / norms)[norms > 0])
    return torch.cat(parts)


def _chunks(weight: Tensor) -> tuple[Tensor, ...]:
    """Cut a table into runs of rows, so that what is computed of it fits in memory beside it."""
    return torch.split(weight, max(1, _CHUNK // max(1, weight.shape[1])))


def _asked(weight: Tensor, bits: Bits) -> list[Tensor]:
    """Return logarithms of the scales that parts of rows ask for, as many for each table."""
    largest = torch.cat(
        [
            torch.linalg.vector_norm(weight[:, each], torch.inf, dim=1)
            for each in parts_of(weight.shape[1], bits)
        ]
    ).double()
    asked = (largest[largest > 0] / _highest(bits)).log()
    if not len(asked):
        return []
    asked = _quantiles(asked.sort().values, LEVELS)
    # Rows of 4 bits take scales that clip their largest value, by a fifth or so.
    return [asked, asked + math.log(0.8)] if bits == 4 else [asked]


def _quantiles(values: Tensor, count: int) -> Tensor:
    """Return so many of sorted values, evenly from the first to the last."""
    return values[torch.linspace(0, len(values) - 1, count, dtype=torch.float64).round().long()]


def _encode(weight: Tensor, bits: Bits, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes int8 ``[rows, columns]`` of one part, and levels uint8 ``[rows, 1]``."""
    lowest, highest = -(2 ** (bits - 1)), _highest(bits)
    largest = weight.abs().amax(1)
    fitting = largest / highest
    unit = largest.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    first = torch.searchsorted(scales, fitting * _LEAST_SHARE[bits])
    last = torch.searchsorted(scales, fitting * _MOST_SHARE)
    best = torch.full_like(fitting, torch.inf)
    level = torch.zeros_like(first)
    codes = torch.zeros_like(weight, dtype=torch.int8)
    for tried in range(_TRIED):
        # From the largest down, so that each step is one of the rows' own range.
        at = last - (last - first) * tried // (_TRIED - 1)
        at = at.clamp(0, LEVELS - 1)
        scale = scales[at][:, None]
        candidate = (weight / scale).round().clamp(lowest, highest)
        error = ((candidate * scale - weight) / unit).square().sum(1)
        better = error < best
        best = torch.where(better, error, best)
        level = torch.where(better, at, level)
        codes = torch.where(better[:, None], candidate.to(torch.int8), codes)
    return codes, level.to(torch.uint8)[:, None]


def _highest(bits: Bits) -> int:
    return int(2 ** (bits - 1) - 1)
