"""The kernels of `optimize.kernels.lookup_dots`; importing it needs ``triton``."""

# Triton reads the source of these functions: annotations mark compile-time constants, names in
# capitals are theirs, and there are no types to give.

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


def _scale(
    codes, levels, scales, parts, which, column, mask,
    DIMENSION: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    part = tl.load(parts + column, mask=column < DIMENSION, other=0)
    level = tl.load(levels + which[:, None] * PARTS + part[None, :], mask=mask, other=0)
    return codes.to(tl.float32) * tl.load(scales + level.to(tl.int32), mask=mask, other=0.0)


_scaled: Any = triton.jit(_scale)


def _sum_rows(
    data32, data16, data8, data4, levels8, levels4, scales, parts, layout, ids,
    row, feature, column,
    FEATURES: tl.constexpr, PLACES: tl.constexpr, LONGEST: tl.constexpr, DIMENSION: tl.constexpr,
    PARTS_8: tl.constexpr, PARTS_4: tl.constexpr, HAS_32: tl.constexpr, HAS_16: tl.constexpr,
    HAS_8: tl.constexpr, HAS_4: tl.constexpr,
):  # fmt: skip
    """Sum the rows of each feature's bag: ``[V, D]``, zeros where a vector is no feature's."""
    is_feature = (feature >= 0) & (feature < FEATURES)
    kind = tl.load(layout + feature, mask=is_feature, other=0)
    start = tl.load(layout + FEATURES + feature, mask=is_feature, other=0)
    rows = tl.load(layout + 2 * FEATURES + feature, mask=is_feature, other=0)
    first = tl.load(layout + 3 * FEATURES + feature, mask=is_feature, other=0)
    length = tl.load(layout + 4 * FEATURES + feature, mask=is_feature, other=0)
    empty = tl.load(layout + 5 * FEATURES + feature, mask=is_feature, other=0)
    in_row = column < DIMENSION
    # Zeros of the block's shape.
    summed = (feature[:, None] + column[None, :]).to(tl.float32) * 0.0
    for place in range(LONGEST):
        inside = is_feature & (place < length)
        found = tl.load(ids + row * PLACES + first + place, mask=inside, other=-1)
        there = inside & (found >= 0) & (found < rows) & (found != empty)
        which = tl.where(there, found + start, 0)
        at = which[:, None] * DIMENSION + column[None, :]
        if HAS_32:
            mask = (there & (kind == 32))[:, None] & in_row[None, :]
            summed += tl.load(data32 + at, mask=mask, other=0.0)
        if HAS_16:
            mask = (there & (kind == 16))[:, None] & in_row[None, :]
            summed += tl.load(data16 + at, mask=mask, other=0.0).to(tl.float32)
        if HAS_8:
            mask = (there & (kind == 8))[:, None] & in_row[None, :]
            codes = tl.load(data8 + at, mask=mask, other=0)
            summed += _scaled(
                codes, levels8, scales, parts, which, column, mask, DIMENSION, PARTS_8
            )
        if HAS_4:
            mask = (there & (kind == 4))[:, None] & in_row[None, :]
            half: tl.constexpr = (DIMENSION + 1) // 2
            byte_at = which[:, None] * half + (column % half)[None, :]
            byte = tl.load(data4 + byte_at, mask=mask, other=0).to(tl.int32)
            # Two codes of 4 bits in one byte: 16 · second + first + 8.
            codes = tl.where((column < half)[None, :], (byte & 15) - 8, byte >> 4)
            summed += _scaled(
                codes, levels4, scales, parts + DIMENSION, which, column, mask, DIMENSION, PARTS_4
            )
    return summed


_summed: Any = triton.jit(_sum_rows)


def _vectors(
    data32, data16, data8, data4, levels8, levels4, scales, parts, layout, ids, out,
    VECTORS: tl.constexpr, COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr, PLACES: tl.constexpr, LONGEST: tl.constexpr, DIMENSION: tl.constexpr,
    PARTS_8: tl.constexpr, PARTS_4: tl.constexpr, HAS_32: tl.constexpr, HAS_16: tl.constexpr,
    HAS_8: tl.constexpr, HAS_4: tl.constexpr,
):  # fmt: skip
    """Write a row's vectors of VECTORS features."""
    row = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * VECTORS + tl.arange(0, VECTORS)
    column = tl.arange(0, COLUMNS)
    summed = _summed(
        data32, data16, data8, data4, levels8, levels4, scales, parts, layout, ids,
        row, feature, column, FEATURES, PLACES, LONGEST, DIMENSION,
        PARTS_8, PARTS_4, HAS_32, HAS_16, HAS_8, HAS_4,
    )  # fmt: skip
    at = (row * FEATURES + feature[:, None]) * DIMENSION + column[None, :]
    tl.store(out + at, summed, mask=(feature < FEATURES)[:, None] & (column < DIMENSION)[None, :])


def _dots(
    data32, data16, data8, data4, levels8, levels4, scales, parts, layout, ids,
    given, places, out,
    GIVEN: tl.constexpr, PLACED: tl.constexpr, FIRST: tl.constexpr, OUT: tl.constexpr,
    VECTORS: tl.constexpr, COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr, PLACES: tl.constexpr, LONGEST: tl.constexpr, DIMENSION: tl.constexpr,
    PARTS_8: tl.constexpr, PARTS_4: tl.constexpr, HAS_32: tl.constexpr, HAS_16: tl.constexpr,
    HAS_8: tl.constexpr, HAS_4: tl.constexpr,
):  # fmt: skip
    """Write a row's dots."""
    row = tl.program_id(0).to(tl.int64)
    vector = tl.arange(0, VECTORS)  # the given ones, then one for each feature
    column = tl.arange(0, COLUMNS)
    in_row = column < DIMENSION
    summed = _summed(
        data32, data16, data8, data4, levels8, levels4, scales, parts, layout, ids,
        row, vector - GIVEN, column, FEATURES, PLACES, LONGEST, DIMENSION,
        PARTS_8, PARTS_4, HAS_32, HAS_16, HAS_8, HAS_4,
    )  # fmt: skip
    given_at = (row * GIVEN + vector[:, None]) * DIMENSION + column[None, :]
    is_given = (vector < GIVEN)[:, None] & in_row[None, :]
    summed += tl.load(given + given_at, mask=is_given, other=0.0)
    # In float32 throughout: TF32 would round what the tables hold exactly.
    dots = tl.dot(summed, tl.trans(summed), input_precision="ieee")  # [V, V]
    count: tl.constexpr = GIVEN + FEATURES
    both = (vector < count)[:, None] & (vector < count)[None, :]
    if PLACED:
        at = vector[:, None] * count + vector[None, :]
        place = tl.load(places + at, mask=both, other=-1)
        wanted = place >= 0
    else:
        place = vector[:, None] * (vector[:, None] - 1) // 2 + vector[None, :]
        wanted = both & (vector[:, None] > vector[None, :])
    if FIRST:
        first = tl.load(given + row * GIVEN * DIMENSION + column, mask=in_row, other=0.0)
        tl.store(out + row * OUT + column, first, mask=in_row)
        place += DIMENSION
    tl.store(out + row * OUT + place, dots, mask=wanted)


vectors_kernel: Any = triton.jit(_vectors)
dots_kernel: Any = triton.jit(_dots)
