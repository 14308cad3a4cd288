"""Requests as bytes: checked as quickly as they can be, then packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.wire import WireTensor, wire_tensors

if TYPE_CHECKING:
    from rankers.features import Signature
    from rankers.requests import Array, Columns, RankingRequest


class Packing:
    """Checks and packs requests of one signature.

    `RankingRequest.check` looks at every feature by itself, 150 µs for 39 of them, which is 15 % of
    a round trip. So values are compared a packed tensor at a time, and the slow check is only
    asked to name what is wrong.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.tensors = wire_tensors(signature)
        self._user = [_TensorPacking(each) for each in self.tensors if each.side == "user"]
        self._counts = len(signature.user), len(signature.item)
        self._item = [_TensorPacking(each) for each in self.tensors if each.side == "item"]

    def pack(self, request: RankingRequest) -> dict[str, Array]:
        """Return the request's wire tensors, each contiguous: user ``[1, W]``, item ``[N, W]``.

        Raises:
            RequestError: The request does not fit the signature.
        """
        packed: dict[str, Array] = {}
        try:
            fits = self._pack(request, packed)
        except (AttributeError, TypeError):  # no arrays at all
            fits = False
        if not fits:
            request.check(self.signature)
            # It fits after all: its columns are only not NumPy's own dtypes, object for object.
            for each in self.tensors:
                packed[each.name] = each.pack(
                    request.user if each.side == "user" else request.items
                )
        return packed

    def _pack(self, request: RankingRequest, packed: dict[str, Array]) -> bool:
        count = request.candidates
        if count <= 0 or (len(request.user), len(request.items)) != self._counts:
            return False
        for each in self._user:
            if not each.pack(request.user, 1, packed):
                return False
        for each in self._item:  # noqa: SIM110 - a generator costs a microsecond
            if not each.pack(request.items, count, packed):
                return False
        return True


# `all` of an array is a function in Python that calls this.
_all = np.logical_and.reduce


class _TensorPacking:
    """What `Packing` has to know of one tensor, looked up once."""

    def __init__(self, tensor: WireTensor) -> None:
        self._name = tensor.name
        self._dtype = np.dtype(tensor.dtype)
        self._features = [(each.name, each.shape, each.width) for each in tensor.features]
        self._finite = self._dtype.kind == "f"
        # IDs run from 0: seen as unsigned, those below it are far above every limit.
        self._unsigned = np.dtype(f"uint{self._dtype.itemsize * 8}")
        self._limits = _limits(tensor, self._unsigned)

    def pack(self, columns: Columns, rows: int, packed: dict[str, Array]) -> bool:
        """Add the tensor to ``packed``; False if something may be wrong with it."""
        parts = []
        for name, shape, width in self._features:
            column = columns.get(name)
            if (
                column is None
                or column.dtype != self._dtype
                or column.shape != ((rows, *shape) if shape else (rows,))
            ):
                return False
            parts.append(column if column.ndim == 2 else column.reshape(rows, width))
        tensor = parts[0] if len(parts) == 1 else np.concatenate(parts, 1)
        if not tensor.flags.c_contiguous:
            tensor = np.ascontiguousarray(tensor)
        packed[self._name] = tensor
        if self._finite:
            return bool(_all(np.isfinite(tensor), axis=None))
        if self._limits is None:
            return True
        return bool(_all(tensor.view(self._unsigned) <= self._limits, axis=None))


def _limits(tensor: WireTensor, unsigned: np.dtype[Any]) -> Array | None:
    """Return the largest value of every column, unsigned ``[W]``; None if any will do."""
    if all(each.cardinality is None for each in tensor.features):
        return None
    largest = np.iinfo(unsigned).max
    limits = [largest if e.cardinality is None else e.cardinality - 1 for e in tensor.features]
    return np.repeat(np.array(limits, unsigned), [each.width for each in tensor.features])
