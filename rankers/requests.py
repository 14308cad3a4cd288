"""Ranking requests: one user, N candidates; and many of them side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rankers.features import Feature, Signature

Array = np.ndarray[Any, np.dtype[Any]]
Columns = dict[str, Array]

# The column that says which request a candidate belongs to, where requests are joined.
ITEM_TO_REQUEST = "item_to_request"


class RequestError(UserError):
    """A request does not fit a signature. The message names the feature."""


@dataclass(frozen=True, slots=True)
class RankingRequest:
    """One user and the N candidates to rank for them.

    Attributes:
        user: User features, each of shape ``[1, …]``.
        items: Item features, each of shape ``[N, …]``.
        labels: What was observed for each candidate, float32 ``[N]``: clicks or grades; or None.
    """

    user: Columns
    items: Columns
    labels: Array | None = None

    @property
    def candidates(self) -> int:
        """N, the number of candidates; 0 where there are no item features."""
        return len(next(iter(self.items.values()), ()))

    def flat(self) -> Columns:
        """Return the view of a module that scores rows: user rows repeated N times, ``[N, …]``."""
        count = self.candidates
        repeated = {name: np.repeat(column, count, axis=0) for name, column in self.user.items()}
        return repeated | self.items

    def joined(self) -> Columns:
        """Return the view of a module that takes requests: user ``[1, …]``, items ``[N, …]``.

        ``item_to_request``, int64 ``[N]``, is 0 for every candidate.
        """
        index = np.zeros(self.candidates, np.int64)
        return self.user | self.items | {ITEM_TO_REQUEST: index}

    def check(self, signature: Signature) -> None:
        """Check every column against ``signature``: names, dtypes, shapes, ID ranges, finiteness.

        Raises:
            RequestError: Something does not fit; the message names the feature and both sides.
        """
        _check_arrays(self.user, "user")
        _check_arrays(self.items, "item")
        count = self.candidates
        if count == 0 and all(feature.name in self.items for feature in signature.item):
            raise RequestError("the request has no candidates; at least 1 is needed")
        ignored = signature.ignored
        check_columns(signature.user, self.user, rows=1, side="user", ignored=ignored)
        check_columns(signature.item, self.items, rows=count, side="item", ignored=ignored)
        if self.labels is not None and self.labels.shape != (count,):
            raise RequestError(f"labels have shape {self.labels.shape}; expected ({count},)")


@dataclass(frozen=True, slots=True)
class RequestBatch:
    """R requests side by side, as columns: how logs are held and how requests are joined.

    Attributes:
        user: User features, each ``[R, …]``.
        items: Item features of all candidates in order, each ``[ΣN, …]``.
        offsets: int64 ``[R + 1]``; request r holds the candidates ``offsets[r]:offsets[r + 1]``.
        labels: float32 ``[ΣN]``, or None.
    """

    user: Columns
    items: Columns
    offsets: Array
    labels: Array | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> RankingRequest:
        position = range(len(self))[index]
        start, stop = int(self.offsets[position]), int(self.offsets[position + 1])
        return RankingRequest(
            user={name: column[position : position + 1] for name, column in self.user.items()},
            items={name: column[start:stop] for name, column in self.items.items()},
            labels=None if self.labels is None else self.labels[start:stop],
        )

    def __iter__(self) -> Iterator[RankingRequest]:
        return (self[index] for index in range(len(self)))

    @property
    def rows(self) -> int:
        """ΣN, the number of candidates in all requests."""
        return int(self.offsets[-1])

    @property
    def candidates(self) -> Array:
        """N of each request, int64 ``[R]``."""
        return np.diff(self.offsets)

    def flat(self) -> Columns:
        """Return all (user, candidate) rows: every column ``[ΣN, …]``."""
        counts = self.candidates
        repeated = {name: np.repeat(column, counts, axis=0) for name, column in self.user.items()}
        return repeated | self.items

    def joined(self) -> Columns:
        """Return the view of a module that takes requests: user ``[R, …]``, items ``[ΣN, …]``.

        ``item_to_request``, int64 ``[ΣN]``, is the number of each candidate's request.
        """
        index = np.repeat(np.arange(len(self), dtype=np.int64), self.candidates)
        return self.user | self.items | {ITEM_TO_REQUEST: index}

    def select(self, indices: Sequence[int] | Array) -> RequestBatch:
        """Return the requests at ``indices``, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        counts = self.candidates[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        # Row j of the result is row (start of its request) + (its place within the request).
        rows = np.repeat(self.offsets[chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
        return RequestBatch(
            user={name: column[chosen] for name, column in self.user.items()},
            items={name: column[rows] for name, column in self.items.items()},
            offsets=offsets,
            labels=None if self.labels is None else self.labels[rows],
        )

    def slice(self, start: int, stop: int) -> RequestBatch:
        """Return requests ``start`` to ``stop`` without copying their columns."""
        stop = min(stop, len(self))
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return RequestBatch(
            user={name: column[start:stop] for name, column in self.user.items()},
            items={name: column[first:last] for name, column in self.items.items()},
            offsets=self.offsets[start : stop + 1] - first,
            labels=None if self.labels is None else self.labels[first:last],
        )

    def chunks(self, rows: int) -> Iterator[RequestBatch]:
        """Cut into consecutive batches of whole requests of about ``rows`` candidates each."""
        start = 0
        while start < len(self):
            limit = int(self.offsets[start]) + rows
            stop = max(start + 1, int(np.searchsorted(self.offsets, limit, side="right")) - 1)
            yield self.slice(start, stop)
            start = stop

    def check(self, signature: Signature) -> None:
        """Check every column against ``signature``, and that no request is empty.

        Raises:
            RequestError: Something does not fit.
        """
        empty = np.flatnonzero(self.candidates < 1)
        if len(empty):
            raise RequestError(f"request {empty[0]} has no candidates; at least 1 is needed")
        ignored = signature.ignored
        check_columns(signature.user, self.user, rows=len(self), side="user", ignored=ignored)
        check_columns(signature.item, self.items, rows=self.rows, side="item", ignored=ignored)
        if self.labels is not None and self.labels.shape != (self.rows,):
            raise RequestError(f"labels have shape {self.labels.shape}; expected ({self.rows},)")


def join_requests(requests: Sequence[RankingRequest]) -> RequestBatch:
    """Put requests of the same features side by side.

    Raises:
        RequestError: There are no requests to join.
    """
    if not requests:
        raise RequestError("there are no requests to join")
    first = requests[0]
    counts = [each.candidates for each in requests]
    labels = [each.labels for each in requests if each.labels is not None]
    return RequestBatch(
        user={name: np.concatenate([each.user[name] for each in requests]) for name in first.user},
        items={
            name: np.concatenate([each.items[name] for each in requests]) for name in first.items
        },
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        labels=np.concatenate(labels) if len(labels) == len(requests) else None,
    )


def _check_arrays(columns: Any, side: str) -> None:
    """Check that there are arrays with a row for each user or candidate, of whatever kind."""
    if not isinstance(columns, dict):
        raise RequestError(
            f"the {side} features are a {type(columns).__name__}; expected a dict of arrays by name"
        )
    for name, column in columns.items():
        if not isinstance(column, np.ndarray) or not column.ndim:
            what = "an array of no axes" if isinstance(column, np.ndarray) else f"{column!r:.40}"
            raise RequestError(
                f"{side} feature {name!r} is {what}; expected an array of one row or more"
            )


def check_columns(
    features: Sequence[Feature],
    columns: Mapping[str, Array],
    *,
    rows: int,
    side: str,
    ignored: Sequence[str] = (),
) -> None:
    """Check the columns of one side.

    Args:
        features: Of that side.
        columns: By name.
        rows: How many each has.
        side: ``user`` or ``item``, for messages.
        ignored: Names of columns that may be there and are not looked at.

    Raises:
        RequestError: A feature is missing or unknown, or has the wrong dtype or shape, an ID out of
            its range, or a value that is not finite.
    """
    names = {feature.name for feature in features}
    for name in columns:
        if name not in names and name not in ignored:
            raise RequestError(f"unknown {side} feature {name!r}; {nearest(str(name), names)}")
    for feature in features:
        if feature.name not in columns:
            raise RequestError(
                f"{side} feature {feature.name!r} is missing; the ranker reads it: send "
                f"{feature.dtype} of shape {(rows, *feature.shape)}"
            )
        check_column(feature, columns[feature.name], rows)


def check_column(feature: Feature, column: Array, rows: int) -> None:
    """Check one column, as `check_columns` does."""
    name = feature.name
    if column.dtype != feature.dtype:
        raise RequestError(f"feature {name!r} has dtype {column.dtype}; expected {feature.dtype}")
    expected = (rows, *feature.shape)
    if column.shape != expected:
        raise RequestError(f"feature {name!r} has shape {column.shape}; expected {expected}")
    if feature.cardinality is not None and column.size:
        low, high = int(column.min()), int(column.max())
        if low < 0 or high >= feature.cardinality:
            bad = low if low < 0 else high
            row = int(np.argwhere(column == bad)[0][0])
            raise RequestError(
                f"feature {name!r} holds the ID {bad} in row {row}; "
                f"IDs run from 0 to {feature.cardinality - 1}; map it as training did"
            )
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        row = int(np.argwhere(~np.isfinite(column))[0][0])
        raise RequestError(
            f"feature {name!r} holds a value that is not finite in row {row}; "
            "fill it in as training did"
        )


def save_requests(batch: RequestBatch, path: Path) -> None:
    """Write a batch to one safetensors file: ``user/NAME``, ``items/NAME``, offsets, labels."""
    from safetensors.numpy import save_file

    tensors = {f"user/{name}": np.ascontiguousarray(x) for name, x in batch.user.items()}
    tensors |= {f"items/{name}": np.ascontiguousarray(x) for name, x in batch.items.items()}
    tensors["offsets"] = np.ascontiguousarray(batch.offsets)
    if batch.labels is not None:
        tensors["labels"] = np.ascontiguousarray(batch.labels)
    save_file(tensors, path)


def load_requests(path: Path | str) -> RequestBatch:
    """Read what `save_requests` wrote.

    Raises:
        UserError: The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        return RequestBatch(
            user={key[5:]: x for key, x in tensors.items() if key.startswith("user/")},
            items={key[6:]: x for key, x in tensors.items() if key.startswith("items/")},
            offsets=tensors["offsets"],
            labels=tensors.get("labels"),
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as requests: {error}") from error
