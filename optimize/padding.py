"""Proof that what is in a bucket's padding reaches no score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.artifact import Manifest
    from optimize.runtimes import Predictor

# What padding may move a score by: products of one shape give the same bits for the same row.
_MOVED = 1e-6


def refuse_if_padding_matters(
    predict: Predictor, manifest: Manifest, sizes: Sequence[int], *, stage: str
) -> None:
    """Score the same rows beside different padding.

    Args:
        predict: The artifact, opened in buckets.
        manifest: Its manifest.
        sizes: Of the buckets to try.
        stage: For the message.

    Raises:
        UserError: The scores differ: rows of this program depend on each other.
    """
    from optimize.samples import sample_requests

    for size in sizes:
        if size == 1:
            continue
        request, other = (
            manifest.columns_of(sample_requests(manifest.signature, [rows]))
            for rows in (size // 2, size)
        )
        among_zeros = predict(request)
        predict(other)  # leaves its rows behind as the next request's padding
        among_others = predict(request)
        moved = float(np.abs(among_others - among_zeros).max())
        if not moved <= _MOVED:
            raise UserError(
                f"{stage} pads requests, and this program's scores depend on other rows: by "
                f"{moved:.2g} at {size // 2} of {size}"
            )
