"""The kernel of `optimize.kernels.lookup_dots`; importing it needs ``triton``."""

# Triton reads the source of this function: annotations mark compile-time constants, names in
# capitals are theirs, and there are no types to give.

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


def _lookup_dots(
    data, levels, scales, parts, starts, ids, bottom, out,
    FEATURES: tl.constexpr, LENGTH: tl.constexpr, DIMENSION: tl.constexpr, VECTORS: tl.constexpr,
    PARTS: tl.constexpr, OUT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    vector = tl.arange(0, VECTORS)  # 0 is the bottom MLP's, then one for each feature
    column = tl.arange(0, DIMENSION)
    feature = vector - 1
    is_feature = (feature >= 0) & (feature < FEATURES)
    start = tl.load(starts + feature, mask=is_feature, other=0)

    first = tl.load(bottom + row * DIMENSION + column)  # [D]
    summed = tl.where((vector == 0)[:, None], first[None, :], 0.0)  # [V, D]
    for place in range(LENGTH):
        at = row * FEATURES * LENGTH + feature * LENGTH + place
        found = tl.load(ids + at, mask=is_feature, other=-1)
        there = found >= 0
        which = tl.where(there, found, 0) + start
        mask = there[:, None] & (column >= 0)[None, :]
        if WIDTH == 4:
            half: tl.constexpr = DIMENSION // 2
            byte_at = which[:, None] * half + (column % half)[None, :]
            byte = tl.load(data + byte_at, mask=mask, other=0).to(tl.int32)
            # Two codes of 4 bits in one byte: 16 · second + first + 8.
            values = tl.where((column < half)[None, :], (byte & 15) - 8, byte >> 4).to(tl.float32)
        else:
            value_at = which[:, None] * DIMENSION + column[None, :]
            values = tl.load(data + value_at, mask=mask, other=0).to(tl.float32)
        if WIDTH <= 8:
            part = tl.load(parts + column)
            level_at = which[:, None] * PARTS + part[None, :]
            level = tl.load(levels + level_at, mask=mask, other=0).to(tl.int32)
            values = values * tl.load(scales + level)
        summed += tl.where(mask, values, 0.0)

    # In float32 throughout: TF32 would round what the tables hold exactly.
    dots = tl.dot(summed, tl.trans(summed), input_precision="ieee")  # [V, V]
    below = (vector[:, None] > vector[None, :]) & (vector <= FEATURES)[:, None]
    place_of = vector[:, None] * (vector[:, None] - 1) // 2 + vector[None, :]
    tl.store(out + row * OUT + column, first)
    tl.store(out + row * OUT + DIMENSION + place_of, dots, mask=below)


kernel: Any = triton.jit(_lookup_dots)
