"""The wire tensors of one request in one buffer, packed from columns: a TensorRT plan's inputs.

::

    columns [N, …] ─► user_int64 [1, W] │ item_int64 [1, N, W] │ … ── one copy ─► device

The same as `optimize.static_inputs.StaticInputs`, but for inputs that hold several features side by
side, as a server gets them (rankers/wire.py). Rows beyond a request's are padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rankers.errors import UserError
from rankers.wire import wire_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from rankers.features import Feature, Signature
    from rankers.requests import Array, Columns
    from rankers.wire import WireTensor

_ALIGNED = 256  # bytes; as in optimize.static_inputs


class WireInputs:
    """The inputs of one bucket of one user.

    Args:
        signature: The features.
        rows: The bucket's size: candidates.
        device: Of the engine. On ``cuda`` the host's buffer is pinned.

    Attributes:
        host: uint8 ``[bytes]``.
        device: The same bytes where the engine reads them.
        named: The wire tensors on ``device`` by name: ``[1, W]`` and ``[1, rows, W]``.
    """

    def __init__(self, signature: Signature, rows: int, device: str) -> None:
        tensors = wire_tensors(signature)
        places, end = {}, 0
        for each in tensors:
            size = _count(each, rows) * each.width * np.dtype(each.dtype).itemsize
            places[each.name] = (end, end + size)
            end = -(-(end + size) // _ALIGNED) * _ALIGNED
        self.host = torch.zeros(end, dtype=torch.uint8, pin_memory=device != "cpu")
        self.device = torch.zeros(end, dtype=torch.uint8, device=device)
        self.named = {
            each.name: _view(self.device, places[each.name], each, rows) for each in tensors
        }
        self._columns: list[tuple[Feature, Array]] = []
        self._limits: list[tuple[Array, Array]] = []
        for each in tensors:
            packed = _view(self.host, places[each.name], each, rows).numpy()
            flat = packed.reshape(-1, each.width)  # [1 or rows, W]
            self._columns += _features(each, flat)
            limits = _limits_of(each)
            if limits is not None:
                self._limits.append((flat.view(f"u{flat.dtype}"), limits))

    def pack(self, columns: Mapping[str, Array], start: int, end: int) -> None:
        """Write rows ``start`` to ``end`` of a request's columns; what is beyond stays padding.

        Raises:
            UserError: A column is missing or of another dtype or length, or an ID is out of its
                range.
        """
        for feature, view in self._columns:
            rows = 1 if feature.side == "user" else end - start
            try:
                column = columns[feature.name]
                taken = column[:1] if feature.side == "user" else column[start:end]
                if len(taken) != rows:
                    raise ValueError(f"{len(column)} rows")  # noqa: TRY301 - as NumPy's own below
                np.copyto(view[:rows], taken.reshape(rows, feature.width), casting="no")
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"feature {feature.name!r} does not fit: {error}; expected {feature.dtype} of "
                    f"shape [{rows}{''.join(f', {size}' for size in feature.shape)}]"
                ) from error
        for ids, limits in self._limits:
            if (ids >= limits).any():
                self._refuse_ids()

    def views(self) -> Columns:
        """Return the host's columns as ``[rows, width]``, padding included."""
        return {feature.name: view for feature, view in self._columns}

    def _refuse_ids(self) -> None:
        for feature, view in self._columns:
            if feature.cardinality is None:
                continue
            bad = view[(view < 0) | (view >= feature.cardinality)]
            if len(bad):
                value = int(bad[0])
                self.host.zero_()  # or the next request would find it in its padding
                raise UserError(
                    f"feature {feature.name!r} holds the ID {value}; IDs run from 0 to "
                    f"{feature.cardinality - 1}"
                )


def _count(tensor: WireTensor, rows: int) -> int:
    return 1 if tensor.side == "user" else rows


def _view(buffer: Tensor, place: tuple[int, int], tensor: WireTensor, rows: int) -> Tensor:
    dtype: torch.dtype = getattr(torch, tensor.dtype)
    flat = buffer[place[0] : place[1]].view(dtype)
    return flat.view(1, tensor.width) if tensor.side == "user" else flat.view(1, rows, tensor.width)


def _features(tensor: WireTensor, flat: Array) -> list[tuple[Feature, Array]]:
    """Return each feature with its columns of ``flat``, ``[rows, W]``."""
    starts = np.cumsum([0, *(each.width for each in tensor.features)])
    return [
        (each, flat[:, start : start + each.width])
        for each, start in zip(tensor.features, starts[:-1], strict=True)
    ]


def _limits_of(tensor: WireTensor) -> Array | None:
    """Return what the IDs of each column must be below, as unsigned numbers; None without any.

    Negative IDs are larger than any limit when read so: one comparison for both ends.
    """
    if tensor.dtype not in {"int32", "int64"} or all(
        each.cardinality is None for each in tensor.features
    ):
        return None
    dtype = np.dtype(f"u{tensor.dtype}")
    no_limit = np.iinfo(dtype).max
    limits = [each.cardinality or no_limit for each in tensor.features for _ in range(each.width)]
    return np.array(limits, dtype=dtype)
