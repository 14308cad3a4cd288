"""Calibration requests in the form that `onnxruntime.quantization` reads ranges from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.artifact import Manifest
    from rankers.requests import Columns, RequestBatch

_ROWS = 64
# As many requests as are held in memory at once, with every activation of theirs.
AT_ONCE = 4


def calibration_inputs(
    manifest: Manifest, requests: RequestBatch, *, inputs: Sequence[str], limit: int
) -> list[Columns]:
    """Return a graph's inputs for each request, all of one shape.

    The histograms of percentile and entropy calibration only take activations of equal shapes. So
    each request shows as many candidates as the median one has, 64 at most: a longer one an even
    draw of its own, a shorter one its own again from the first.

    Args:
        manifest: Of the artifact; it knows the layout.
        requests: To learn from.
        inputs: The names of what the graph takes.
        limit: The most requests, evenly drawn.
    """
    count = min(len(requests), limit)
    count -= count % min(AT_ONCE, count)  # parts of equal size are read
    chosen = np.linspace(0, len(requests) - 1, count).round().astype(np.int64)
    rows = int(np.clip(np.median(requests.candidates), 1, _ROWS))
    return [
        {name: columns[name] for name in inputs}
        for place in chosen
        for columns in [manifest.columns_of(_of_size(requests[int(place)], rows))]
    ]


def _of_size(request: RankingRequest, rows: int) -> RankingRequest:
    if request.candidates >= rows:
        places = np.linspace(0, request.candidates - 1, rows).round().astype(np.int64)
    else:
        places = np.arange(rows) % request.candidates
    return RankingRequest(request.user, {name: x[places] for name, x in request.items.items()})


def calibration_reader(inputs: Sequence[Columns]) -> Any:
    """Return a ``CalibrationDataReader`` over inputs, which can be read in parts."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc] # it has no types
        def __init__(self) -> None:
            self._left = iter(inputs)

        def __len__(self) -> int:
            return len(inputs)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(inputs[start_index:end_index])

        def get_next(self) -> Columns | None:
            return next(self._left, None)

    return Reader()
