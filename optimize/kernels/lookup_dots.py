"""Lookups, bags and DLRM's dots in one launch: what compilers make several kernels of.

For each row: F bags of IDs are looked up in F tables, made floats and summed; the F vectors and the
bottom MLP's output are multiplied with each other; out come that output and the dots below the
diagonal, side by side, as the top MLP reads them. Looked-up rows never go back to memory.

Written in the ``triton`` language (no part of Triton Inference Server). Not run on a GPU yet
(docs/gpu.md); `lookup_dots_reference` is its twin, and on the CPU its interpreter is tested against
it. Source of the operation: Naumov et al. 2019, arXiv:1906.00091.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.kernels.stacked_tables import StackedTables, look_up
from rankers.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

EMPTY = -1  # a place of a bag that holds no ID


def lookup_dots(tables: StackedTables, ids: Tensor, bottom: Tensor) -> Tensor:
    """Run the kernel: one program for each row.

    Args:
        tables: F of them, of width D.
        ids: int64 ``[N, F, L]``, each ``-1`` (`EMPTY`) or an ID of its table; not checked here.
        bottom: float32 ``[N, D]``.

    Returns:
        float32 ``[N, D + V (V - 1) / 2]``, where V = F + 1: ``bottom``, then the dots of vectors i
        and j < i, by i then j; the first vector is ``bottom``.

    Raises:
        UserError: The shapes do not fit, or the package ``triton`` is not installed.
    """
    _check(tables, ids, bottom)
    try:
        import triton

        from optimize.kernels.lookup_dots_kernel import kernel
    except ImportError as error:
        raise UserError("the kernel needs the package 'triton': pip install triton") from error
    count, features, length = ids.shape
    vectors = features + 1
    out = torch.empty(count, _width(tables.dimension, vectors), device=bottom.device)
    launch: Any = kernel[(count,)]
    launch(
        tables.data, tables.levels, tables.scales, tables.parts, tables.starts,
        ids.contiguous(), bottom.contiguous(), out,
        FEATURES=features, LENGTH=length, DIMENSION=tables.dimension,
        VECTORS=max(16, triton.next_power_of_2(vectors)), PARTS=tables.levels.shape[1],
        OUT=out.shape[1], WIDTH={"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}[tables.width],
    )  # fmt: skip
    return out


def lookup_dots_reference(tables: StackedTables, ids: Tensor, bottom: Tensor) -> Tensor:
    """Compute what `lookup_dots` does, in plain torch.

    Raises:
        UserError: The shapes do not fit.
    """
    _check(tables, ids, bottom)
    there = ids != EMPTY
    rows = ids.clamp(min=0) + tables.starts[:, None]  # [N, F, L]
    looked_up = look_up(tables, rows) * there[..., None]  # [N, F, L, D]
    vectors = torch.cat([bottom[:, None], looked_up.sum(2)], 1)  # [N, V, D]
    dots = torch.bmm(vectors, vectors.transpose(1, 2))
    lower, upper = torch.tril_indices(vectors.shape[1], vectors.shape[1], offset=-1)
    return torch.cat([bottom, dots[:, lower, upper]], 1)


def bytes_moved(tables: StackedTables, ids: Tensor) -> int:
    """Return the fewest bytes that a launch moves: rows looked up, IDs, and both vectors."""
    count, features, _ = ids.shape
    looked_up = int((ids != EMPTY).sum()) * tables.row_bytes
    out = count * _width(tables.dimension, features + 1) * 4
    return looked_up + ids.nbytes + count * tables.dimension * 4 + out


def _width(dimension: int, vectors: int) -> int:
    return dimension + vectors * (vectors - 1) // 2


def _check(tables: StackedTables, ids: Tensor, bottom: Tensor) -> None:
    features = len(tables.rows)
    fits = (
        ids.dim() == 3
        and ids.dtype == torch.int64
        and ids.shape[1] == features
        and bottom.shape == (len(ids), tables.dimension)
        and bottom.dtype == torch.float32
    )
    if not fits:
        raise UserError(
            f"ids {ids.dtype} {list(ids.shape)} and bottom {bottom.dtype} {list(bottom.shape)}; "
            f"expected int64 [N, {features}, L] and float32 [N, {tables.dimension}]"
        )
