"""An even draw of calibration requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rankers.requests import RequestBatch


def evenly_drawn(requests: RequestBatch, limit: int) -> RequestBatch:
    """Return so many requests at most, drawn evenly in their order."""
    if len(requests) <= limit:
        return requests
    return requests.select(np.linspace(0, len(requests) - 1, limit).round().astype(np.int64))
