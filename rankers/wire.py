"""The wire form of a request: at most one tensor for each side and dtype.

A ranker has dozens of features, and every named tensor costs the client, the server and its Python
backend some 10 µs each. So features of one side and dtype travel as columns of one tensor:
``user_int64 [1, W]`` and ``item_int64 [1, N, W]``, where a feature of shape ``(13,)`` takes 13
columns in row-major order. Server and client derive the same layout from the signature alone.
docs/decisions/002-packed-wire-form.md has the measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rankers.features import Dtype, Feature, Side, Signature
    from rankers.requests import Array, Columns, RankingRequest

SCORE = "score"


@dataclass(frozen=True, slots=True)
class WireTensor:
    """Features that travel as the columns of one tensor.

    Attributes:
        name: Such as ``item_int64``.
        features: What it holds, in the signature's order.
    """

    name: str
    side: Side
    dtype: Dtype
    features: tuple[Feature, ...]

    @property
    def width(self) -> int:
        """W, the number of columns."""
        return sum(feature.width for feature in self.features)

    def pack(self, columns: Columns) -> Array:
        """Put this tensor's features side by side: ``[rows, W]``."""
        parts = [columns[each.name].reshape(-1, each.width) for each in self.features]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))

    def unpack(self, packed: Array) -> Columns:
        """Cut ``[rows, W]`` back into columns ``[rows, …]``, each contiguous."""
        columns: Columns = {}
        start = 0
        for each in self.features:
            part = packed[:, start : start + each.width]
            columns[each.name] = np.ascontiguousarray(part).reshape(len(packed), *each.shape)
            start += each.width
        return columns


def wire_tensors(signature: Signature) -> tuple[WireTensor, ...]:
    """Return the tensors that carry a request of ``signature``: user side first."""
    groups: dict[tuple[Side, Dtype], list[Feature]] = {}
    for feature in (*signature.user, *signature.item):
        groups.setdefault((feature.side, feature.dtype), []).append(feature)
    return tuple(
        WireTensor(f"{side}_{dtype}", side, dtype, tuple(features))
        for (side, dtype), features in groups.items()
    )


def pack_request(tensors: tuple[WireTensor, ...], request: RankingRequest) -> dict[str, Array]:
    """Return the request as wire tensors: user ``[1, W]``, item ``[1, N, W]``."""
    packed: dict[str, Any] = {}
    for each in tensors:
        if each.side == "user":
            packed[each.name] = each.pack(request.user)
        else:
            packed[each.name] = each.pack(request.items)[np.newaxis]
    return packed


def request_bytes(signature: Signature, candidates: int, *, user_rows: int = 1) -> int:
    """Return the size of a request's tensors, as `pack_request` makes them.

    Args:
        signature: The features.
        candidates: N.
        user_rows: How often the user is sent: once, or N times, as a wire of flat rows would.
    """
    return sum(
        (user_rows if each.side == "user" else candidates)
        * each.width
        * np.dtype(each.dtype).itemsize
        for each in wire_tensors(signature)
    )
