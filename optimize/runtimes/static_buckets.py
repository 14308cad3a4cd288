"""Requests into buckets with inputs and scores at fixed addresses, whatever runs over them.

::

    request of N candidates ─ pieces ─► smallest bucket that holds each ─ run ─► its first N scores

What runs is a captured graph, an ONNX Runtime session with bound buffers or a TensorRT engine; each
is a `BucketRun` for each bucket.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import numpy as np

from optimize.static_inputs import one_user_each
from rankers.requests import ITEM_TO_REQUEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from optimize.buckets import Buckets
    from optimize.static_inputs import Column
    from rankers.requests import Array, Columns


class BucketInputs(Protocol):
    """The inputs of one bucket: `StaticInputs`, or `optimize.wire_inputs.WireInputs`."""

    host: Tensor
    device: Tensor
    named: dict[str, Tensor]

    def pack(self, columns: Mapping[str, Array], start: int, end: int) -> None:
        """Write rows ``start`` to ``end`` of a request's columns, or raise `UserError`."""
        ...


class BucketRun(Protocol):
    """One bucket: its buffers, and what runs over them."""

    @property
    def inputs(self) -> BucketInputs:
        """Where a request is packed."""
        ...

    @property
    def scores(self) -> Array:
        """float32 ``[size]`` on the host, overwritten by the next run."""
        ...

    def run(self) -> None:
        """Score what is packed; done when it returns."""
        ...


class BucketPredictor:
    """Runs requests in buckets, one at a time, whichever thread they come from.

    Args:
        columns: The artifact's inputs, as `optimize.static_inputs.columns_of` gives them.
        buckets: The sizes, and what becomes of larger requests.
        runs: By size.
    """

    def __init__(
        self, columns: Sequence[Column], buckets: Buckets, runs: Mapping[int, BucketRun]
    ) -> None:
        self.buckets = buckets
        self._runs = runs
        self._lock = threading.Lock()
        self._columns = tuple(columns)
        self._once = any(each.name == ITEM_TO_REQUEST for each in columns)
        self._counted = next(each.name for each in columns if not each.per_user)

    def __call__(self, inputs: Columns) -> Array:
        """Score rows; see `optimize.runtimes.Predictor`.

        Raises:
            UserError: A column does not fit, an ID is out of range, or there are more rows than
                the buckets take.
        """
        scores = np.empty(len(inputs[self._counted]), dtype=np.float32)
        if not self._once:
            with self._lock:
                self._score(inputs, scores)
            return scores
        for columns, rows in one_user_each(inputs, self._columns):
            part = np.empty(len(columns[ITEM_TO_REQUEST]), dtype=np.float32)
            with self._lock:
                self._score(columns, part)
            scores[rows] = part
        return scores

    def _score(self, columns: Columns, scores: Array) -> None:
        for start, end, size in self.buckets.pieces(len(scores)):
            run = self._runs[size]
            run.inputs.pack(columns, start, end)
            run.run()
            scores[start:end] = run.scores[: end - start]
