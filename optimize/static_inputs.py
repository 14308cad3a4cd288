"""All inputs of one bucket in one buffer at one address: packed on the host, copied once.

::

    host   uint8 [bytes], pinned   ──one copy──►   device   uint8 [bytes]
      └ NumPy views, one a column                    └ tensors, one a column: a graph's inputs

A captured graph reads the addresses it was captured with. Rows beyond a request's are padding: they
keep valid values of some earlier request, or zeros, and nothing reads the scores computed of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rankers.errors import UserError
from rankers.requests import ITEM_TO_REQUEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from optimize.artifact import Manifest
    from rankers.requests import Array, Columns

_ALIGNED = 256  # bytes; kernels load vectors from aligned addresses
_NO_LIMIT = {8: np.iinfo(np.uint64).max, 4: np.iinfo(np.uint32).max}


@dataclass(frozen=True, slots=True)
class Column:
    """One input of a program.

    Attributes:
        name: Of the feature.
        dtype: NumPy's name.
        shape: Of one row.
        per_user: Whether it has one row for the bucket's user, not one for each candidate.
        limit: IDs are below it; None where nothing is known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    per_user: bool
    limit: int | None


def columns_of(manifest: Manifest) -> tuple[Column, ...]:
    """Return the inputs of an artifact in order, of a bucket of one user where users come once."""
    once = manifest.layout == "user_once"
    found = [
        Column(each.name, each.dtype, each.shape, once and each.side == "user", each.cardinality)
        for each in manifest.signature.features
    ]
    return (*found, Column(ITEM_TO_REQUEST, "int64", (), False, 1)) if once else tuple(found)


def one_user_each(inputs: Columns, columns: Sequence[Column]) -> list[tuple[Columns, Array]]:
    """Cut joined requests into one for each user, with the rows of its candidates."""
    owners = inputs[ITEM_TO_REQUEST]
    if not owners.any():
        return [(inputs, np.arange(len(owners)))]
    found = []
    for user in np.unique(owners):
        rows = np.flatnonzero(owners == user)
        cut = {
            each.name: inputs[each.name][slice(user, user + 1) if each.per_user else rows]
            for each in columns
        }
        cut[ITEM_TO_REQUEST] = np.zeros(len(rows), dtype=np.int64)
        found.append((cut, rows))
    return found


class StaticInputs:
    """The inputs of one bucket.

    Args:
        columns: In the program's order.
        rows: The bucket's size.
        device: Of the graph. On ``cuda`` the host's buffer is pinned.

    Attributes:
        host: uint8 ``[bytes]``.
        device: The same bytes where the graph reads them.
        tensors: Views of ``device`` in the program's order, ``[rows, …]``, or ``[1, …]`` each.
        named: The same by name.
    """

    def __init__(self, columns: Sequence[Column], rows: int, device: str) -> None:
        self._columns = tuple(columns)
        self._rows = rows
        # IDs lie together, so that one comparison checks all of them.
        order = sorted(range(len(columns)), key=lambda at: _kind(columns[at]))
        places: dict[int, tuple[int, int]] = {}
        end = 0
        for at in order:
            size = _bytes(columns[at], rows)
            places[at] = (end, end + size)
            end = -(-(end + size) // _ALIGNED) * _ALIGNED
        pinned = device != "cpu"
        self.host = torch.zeros(end, dtype=torch.uint8, pin_memory=pinned)
        self.device = torch.zeros(end, dtype=torch.uint8, device=device)
        self.tensors = tuple(
            _view(self.device, places[at], each, rows) for at, each in enumerate(columns)
        )
        self.named = {each.name: x for each, x in zip(columns, self.tensors, strict=True)}
        host_views = [_view(self.host, places[at], each, rows) for at, each in enumerate(columns)]
        self._views = {
            each.name: view.numpy() for each, view in zip(columns, host_views, strict=True)
        }
        self._checked = [
            checked
            for width in (8, 4)
            if (checked := _limits(self.host, columns, places, width)) is not None
        ]

    def pack(self, columns: Mapping[str, Array], start: int, end: int) -> None:
        """Write rows ``start`` to ``end`` of a request's columns; what is beyond stays padding.

        Raises:
            UserError: A column is missing or of another dtype or length, or an ID is out of its
                range: a kernel would read past its table, which ends a CUDA process.
        """
        for each in self._columns:
            view = self._views[each.name]
            rows = 1 if each.per_user else end - start
            try:
                column = columns[each.name]
                taken = column[:1] if each.per_user else column[start:end]
                if len(taken) != rows:
                    raise ValueError(f"{len(column)} rows")  # noqa: TRY301 - as NumPy's own below
                np.copyto(view[:rows], taken, casting="no")
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"feature {each.name!r} does not fit: {error}; expected {each.dtype} of shape "
                    f"[{rows}{''.join(f', {size}' for size in each.shape)}]"
                ) from error
        for ids, limits in self._checked:
            if (ids >= limits).any():
                self._refuse_ids()

    def fill(self, columns: Mapping[str, Tensor], start: int, end: int) -> None:
        """Write rows ``start`` to ``end`` of columns that are on the device already.

        IDs are not looked at. What is beyond the rows stays padding, as in `pack`.
        """
        for each, tensor in zip(self._columns, self.tensors, strict=True):
            column = columns[each.name]
            rows = 1 if each.per_user else end - start
            tensor[:rows].copy_(column[:1] if each.per_user else column[start:end])

    def views(self) -> Columns:
        """Return the host's columns, padding included, for whoever fills them by himself."""
        return dict(self._views)

    def _refuse_ids(self) -> None:
        wrong = [
            (each.name, int(bad[0]), each.limit - 1)
            for each in self._columns
            if each.limit is not None
            and len(bad := _outside(self._views[each.name], each.limit)) > 0
        ]
        self.host.zero_()  # or the next request would find them in its padding
        name, value, last = wrong[0]
        raise UserError(f"feature {name!r} holds the ID {value}; IDs run from 0 to {last}")


def _outside(ids: Array, limit: int) -> Array:
    bad: Array = ids[(ids < 0) | (ids >= limit)]
    return bad


def _kind(column: Column) -> tuple[int, int]:
    """Sort columns with limits first, wide types before narrow ones."""
    limited = column.limit is not None and column.dtype.startswith("int")
    return (0 if limited else 1, -np.dtype(column.dtype).itemsize)


def _bytes(column: Column, rows: int) -> int:
    count = 1 if column.per_user else rows
    return count * int(np.prod(column.shape, dtype=np.int64)) * np.dtype(column.dtype).itemsize


def _view(buffer: Tensor, place: tuple[int, int], column: Column, rows: int) -> Tensor:
    dtype: torch.dtype = getattr(torch, column.dtype)
    flat = buffer[place[0] : place[1]].view(dtype)
    return flat.view(1 if column.per_user else rows, *column.shape)


def _limits(
    host: Tensor, columns: Sequence[Column], places: Mapping[int, tuple[int, int]], width: int
) -> tuple[Array, Array] | None:
    """Return the IDs of a width as unsigned numbers, and what each must be below.

    Negative ones are larger than any limit when read so: one comparison for both ends.
    """
    chosen = [
        at
        for at, each in enumerate(columns)
        if each.limit is not None and each.dtype == f"int{8 * width}"
    ]
    if not chosen:
        return None
    start = min(places[at][0] for at in chosen)
    end = max(places[at][1] for at in chosen)
    ids = host.numpy()[start:end].view(f"uint{8 * width}")
    limits = np.full(len(ids), _NO_LIMIT[width], dtype=ids.dtype)
    for at in chosen:
        first, last = ((each - start) // width for each in places[at])
        limits[first:last] = columns[at].limit
    return ids, limits
