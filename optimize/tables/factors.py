"""A table as the product of smaller ones: fewer columns, or rows put together from two.

- *Low rank*: E ``[rows, D]`` ≈ A ``[rows, k]`` · B ``[k, D]``. Which k directions stay is told by
  the reads: rows that are read often count more, and so do directions that scores follow.
- *Quotients and remainders*: row i ≈ Q[i // m] ⊙ R[i % m], by least squares, weighted alike
  (Shi et al., Compositional Embeddings Using Complementary Partitions, KDD 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from optimize.tables.reads import TableReads

_CHUNK_ROWS = 1 << 20
# Alternations of least squares. On the zoo's tables the error of the last ones changes by less than
# a hundredth.
_ALTERNATIONS = 12
# Shares of a table's spread that are what float32 makes of none.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Directions:
    """The directions of a table's rows, those that matter most first.

    Attributes:
        errors: Mean square by which scores move if the first k directions stay, for k from 0 to D:
            float64 ``[D + 1]``, descending.
        into: From rows to their coordinates, float64 ``[D, D]``, a direction a column.
        back: From coordinates to rows, float64 ``[D, D]``, a direction a row.
    """

    errors: Tensor
    into: Tensor
    back: Tensor

    def factors(self, weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """Return A ``[rows, rank]`` and B ``[rank, D]`` in the table's dtype."""
        into = self.into[:, :rank]
        rows = [(part.double() @ into).to(weight.dtype) for part in _parts(weight)]
        return torch.cat(rows), self.back[:rank].to(weight.dtype)


def directions_of(weight: Tensor, reads: TableReads) -> Directions:
    """Return the directions of a table's rows.

    With G the slopes and p the reads they are the eigenvectors of G½ Eᵀ diag(p) E G½, which is
    ``[D, D]`` however many rows there are.

    Args:
        weight: E, ``[rows, D]``.
        reads: Of this table.
    """
    values, vectors = torch.linalg.eigh(reads.slopes)
    sizes = values.clamp(min=float(values.max()) * 1e-12).sqrt()
    root, back = (vectors * sizes) @ vectors.T, (vectors / sizes) @ vectors.T
    spread = root @ second_moment(weight, reads.share) @ root
    found, axes = torch.linalg.eigh((spread + spread.T) / 2)
    found, axes = found.clamp(min=0).flip(0), axes.flip(1)
    found[found < _ROUNDING * found[0]] = 0
    left = torch.cat([found.flip(0).cumsum(0).flip(0), found.new_zeros(1)])
    return Directions(errors=left, into=root @ axes, back=axes.T @ back)


def second_moment(rows: Tensor, share: Tensor) -> Tensor:
    """Return the sum of ``p e eᵀ`` over rows ``[rows, D]`` of shares ``p [rows]``: ``[D, D]``."""
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for part, weights in zip(_parts(rows), _parts(share), strict=True):
        values = part.double()
        total += (values * weights[:, None]).T @ values
    return total


def remainder_counts(rows: int) -> tuple[int, ...]:
    """Return numbers of remainders worth trying, ascending.

    A small m lets neighbours share a quotient; a large one lets rows far apart share a remainder.
    """
    found = set()
    shared = 2
    while shared * shared <= rows:
        found |= {shared, math.ceil(rows / shared)}
        shared *= 2
    return tuple(sorted(found))


def quotient_remainder(weight: Tensor, share: Tensor, remainders: int) -> tuple[Tensor, Tensor]:
    """Return Q ``[ceil(rows / m), D]`` and R ``[m, D]`` in the table's dtype.

    Each column is a matrix ``[quotients, remainders]`` of which the nearest of rank one is sought,
    by alternating least squares from the quotient that is read most.

    Args:
        weight: ``[rows, D]``.
        share: What each row counts, float64 ``[rows]``; rows of 0 may come out as anything.
        remainders: m.
    """
    rows, width = weight.shape
    quotients = math.ceil(rows / remainders)
    missing = quotients * remainders - rows
    grid = torch.cat([weight.detach(), weight.new_zeros(missing, width)]).float()
    grid = grid.reshape(quotients, remainders, width)
    shares = torch.cat([share, share.new_zeros(missing)]).float()
    shares = (shares / shares.sum()).reshape(quotients, remainders, 1)
    weighted = shares * grid
    first = int((weighted * grid).sum((1, 2)).argmax())
    right = grid[first]
    tiny = torch.finfo(torch.float32).tiny
    left = grid.new_zeros(quotients, width)
    for _ in range(_ALTERNATIONS):
        left = (weighted * right).sum(1) / (shares * right**2).sum(1).clamp(min=tiny)
        above = (weighted * left[:, None]).sum(0)
        right = above / (shares * left[:, None] ** 2).sum(0).clamp(min=tiny)
        # Q holds the size, R is around one: so both learn at one rate.
        right = right / right.square().mean(0).sqrt().clamp(min=tiny)
    left = (weighted * right).sum(1) / (shares * right**2).sum(1).clamp(min=tiny)
    return left.to(weight.dtype), right.to(weight.dtype)


def combined(left: Tensor, right: Tensor, rows: int) -> Tensor:
    """Return the rows that quotients ``[q, D]`` and remainders ``[m, D]`` make: ``[rows, D]``."""
    ids = torch.arange(rows)
    return left[ids // len(right)] * right[ids % len(right)]


def _parts(values: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(values), _CHUNK_ROWS):
        yield values[start : start + _CHUNK_ROWS]
