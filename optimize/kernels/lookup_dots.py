"""Lookups, bags and DLRM's dots in one launch: what compilers make several kernels of.

For each row: F bags of IDs are looked up in tables of several widths, made floats and summed. Then
either the F vectors come out, or they and vectors given beside them are multiplied with each other
as DLRM does, and the dots come out: looked-up rows never go back to memory.

Written in the ``triton`` language (no part of Triton Inference Server). Not run on a GPU yet
(docs/gpu.md); the twins in plain torch say what they compute, and on the CPU the language's
interpreter is tested against them. Source of the operation: Naumov et al. 2019, arXiv:1906.00091.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.kernels.stacked_tables import EMPTY, FIRST, KIND, LENGTH, ROWS, START, StackedTables
from rankers.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# Floats of all of a row's vectors that one program holds; beyond, it would spill its registers.
MOST_VALUES = 1 << 14
# Of vectors alone, which need not be in one program.
_VALUES_AT_ONCE = 1 << 11
_LEAST = 16  # of a side of a matrix product in the language


@dataclass(frozen=True)
class Dots:
    """Which dots come out, and what before them.

    Attributes:
        places: int32 ``[V, V]``: where the dot of vectors i and j goes, -1 for nowhere; of no rows
            for all with j < i, by i then j.
        count: How many come out.
        first: Whether the first given vector comes out before them, as DLRM's top MLP reads it.
    """

    places: Tensor
    count: int
    first: bool

    @classmethod
    def below_diagonal(cls, vectors: int, *, first: bool = True) -> Dots:
        """Return all dots of different vectors, by row of the matrix."""
        places = torch.zeros(0, 0, dtype=torch.int32)
        return cls(places, vectors * (vectors - 1) // 2, first)


def lookup_vectors(tables: StackedTables, ids: Tensor) -> Tensor:
    """Run the kernel that gives each feature's summed rows.

    Args:
        tables: What the features read.
        ids: int64 ``[N, ΣL]``, each feature's beside the next one's. One that is out of its table's
            range is taken for an empty place.

    Returns:
        float32 ``[N, F, D]``.

    Raises:
        UserError: The shapes do not fit, or the package ``triton`` is not installed.
    """
    _check(tables, ids)
    kernels = _kernels()
    features = tables.features
    columns = power_of_2(tables.dimension)
    together = min(power_of_2(features, 1), max(1, _VALUES_AT_ONCE // columns))
    out = torch.empty(len(ids), features, tables.dimension, device=ids.device)
    launch: Any = kernels.vectors_kernel[(len(ids), -(-features // together))]
    launch(*_given(tables, ids), out, VECTORS=together, COLUMNS=columns, **_constants(tables, ids))
    return out


def lookup_dots(tables: StackedTables, ids: Tensor, given: Tensor, dots: Dots) -> Tensor:
    """Run the kernel that gives the dots of given and looked-up vectors.

    Args:
        tables: What the features read.
        ids: As of `lookup_vectors`.
        given: float32 ``[N, B, D]``: the first B of the V = B + F vectors.
        dots: Which of them come out.

    Returns:
        float32 ``[N, count]``, or ``[N, D + count]`` with the first given vector.

    Raises:
        UserError: The shapes do not fit, or the package ``triton`` is not installed.
    """
    _check(tables, ids, given)
    kernels = _kernels()
    vectors = given.shape[1] + tables.features
    dimension = tables.dimension
    out = torch.empty(len(ids), dots.count + dots.first * dimension, device=ids.device)
    launch: Any = kernels.dots_kernel[(len(ids),)]
    launch(
        *_given(tables, ids), given.contiguous(), dots.places, out,
        GIVEN=given.shape[1], PLACED=bool(len(dots.places)), FIRST=dots.first, OUT=out.shape[1],
        VECTORS=power_of_2(vectors), COLUMNS=power_of_2(dimension), **_constants(tables, ids),
    )  # fmt: skip
    return out


def lookup_vectors_reference(tables: StackedTables, ids: Tensor) -> Tensor:
    """Compute what `lookup_vectors` does, in plain torch."""
    _check(tables, ids)
    layout, features = tables.layout, tables.features
    if ids.shape[1] == features * tables.longest:  # as many for each
        return _summed(tables, layout, ids.view(-1, features, tables.longest))
    bags = zip(layout[FIRST].tolist(), layout[LENGTH].tolist(), strict=True)
    each = [
        _summed(tables, layout[:, at : at + 1], ids[:, None, first : first + length])
        for at, (first, length) in enumerate(bags)
    ]
    return torch.cat(each, 1)


def lookup_dots_reference(tables: StackedTables, ids: Tensor, given: Tensor, dots: Dots) -> Tensor:
    """Compute what `lookup_dots` does, in plain torch."""
    _check(tables, ids, given)
    vectors = torch.cat([given, lookup_vectors_reference(tables, ids)], 1)  # [N, V, D]
    products = torch.bmm(vectors, vectors.transpose(1, 2))
    if len(dots.places):
        pairs = torch.nonzero(dots.places >= 0)
        pairs = pairs[dots.places[pairs[:, 0], pairs[:, 1]].argsort()]
        found = products[:, pairs[:, 0], pairs[:, 1]]
    else:
        lower, upper = torch.tril_indices(vectors.shape[1], vectors.shape[1], offset=-1)
        found = products[:, lower, upper]
    return torch.cat([given[:, 0], found], 1) if dots.first else found


def refuse_ids(tables: StackedTables, ids: Tensor) -> None:
    """Raise unless every ID is in its table or stands for an empty place.

    Raises:
        IndexError: As torch's own lookups on the CPU.
    """
    owner = torch.repeat_interleave(
        torch.arange(tables.features, device=ids.device), tables.layout[LENGTH]
    )
    rows, empty = tables.layout[ROWS][owner], tables.layout[EMPTY][owner]
    if bool((((ids < 0) | (ids >= rows)) & (ids != empty)).any()):
        raise IndexError("index out of range in a fused lookup")


def bytes_moved(tables: StackedTables, ids: Tensor, out: int, given: int = 0) -> int:
    """Return the fewest bytes that a launch moves: rows looked up, IDs, given and written floats.

    Args:
        tables: What the features read.
        ids: int64 ``[N, ΣL]``.
        out: Floats written for each row.
        given: Floats read for each row beside those of tables.
    """
    return tables.bytes_of_rows(ids) + ids.nbytes + 4 * len(ids) * (out + given)


def _summed(tables: StackedTables, layout: Tensor, ids: Tensor) -> Tensor:
    """Sum the rows of bags as long as each other: IDs ``[N, F, L]`` to ``[N, F, D]``."""
    start, rows, empty = (layout[each][:, None] for each in (START, ROWS, EMPTY))
    there = (ids != empty) & (ids >= 0) & (ids < rows)
    regions = tables.region_list()
    total = None
    for region in regions:
        mine = there if len(regions) == 1 else there & (layout[KIND] == region.kind)[:, None]
        values = tables.look_up(region, torch.where(mine, ids + start, 0))  # [N, F, L, D]
        found = torch.where(mine[..., None], values, 0.0).sum(2)
        total = found if total is None else total + found
    if total is None:
        raise AssertionError("there are tables")
    return total


def _given(tables: StackedTables, ids: Tensor) -> list[Tensor]:
    """Return the views of the buffer that kernels read: a pointer for each kind of row."""
    found = {region.kind: region for region in tables.region_list()}
    nothing = tables.data[:0]
    views = [tables.values_of(found[x]) if x in found else nothing for x in (32, 16, 8, 4)]
    views += [tables.levels_of(found[x]) if x in found else nothing for x in (8, 4)]
    return [*views, tables.scales, tables.parts, tables.layout, ids.contiguous()]


def _constants(tables: StackedTables, ids: Tensor) -> dict[str, Any]:
    kinds = tables.regions[::3]
    return {
        "FEATURES": tables.features,
        "PLACES": ids.shape[1],
        "LONGEST": tables.longest,
        "DIMENSION": tables.dimension,
        "PARTS_8": tables.part_count(8),
        "PARTS_4": tables.part_count(4),
    } | {f"HAS_{kind}": kind in kinds for kind in (32, 16, 8, 4)}


def _kernels() -> Any:
    try:
        return importlib.import_module("optimize.kernels.lookup_dots_kernel")
    except ImportError as error:
        raise UserError("the kernel needs the package 'triton': pip install triton") from error


def power_of_2(value: int, least: int = _LEAST) -> int:
    """Return the smallest size of a kernel's block that holds so many."""
    return max(least, 1 << (value - 1).bit_length())


def _check(tables: StackedTables, ids: Tensor, given: Tensor | None = None) -> None:
    fits = ids.dim() == 2 and ids.dtype == torch.int64
    said = f"ids {ids.dtype} {list(ids.shape)}"
    expected = f"int64 [N, {tables.features} times L]"
    if given is not None:
        fits = fits and given.dim() == 3 and given.dtype == torch.float32
        fits = fits and given.shape[0] == len(ids) and given.shape[2] == tables.dimension
        said += f" and given {given.dtype} {list(given.shape)}"
        expected += f" and float32 [N, B, {tables.dimension}]"
    if not fits or ids.shape[1] < tables.features:
        raise UserError(f"{said}; expected {expected}")
