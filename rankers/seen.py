"""How often training met each ID: what tells rare items and cold users from the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rankers.features import Feature, Signature
    from rankers.requests import Array, RequestBatch


def counted_features(signature: Signature) -> tuple[Feature, ...]:
    """Return the features whose IDs are counted: single IDs of a known cardinality."""
    return tuple(
        each for each in signature.features if each.cardinality is not None and each.shape == ()
    )


def count_ids(requests: RequestBatch, signature: Signature) -> dict[str, Array]:
    """Count the IDs of requests.

    Returns:
        By feature, int64 ``[cardinality]``: of a user feature in how many requests each ID is, of
        an item feature in how many candidates.
    """
    columns = requests.user | requests.items
    return {
        each.name: np.bincount(columns[each.name], minlength=each.cardinality or 0)
        for each in counted_features(signature)
    }


def save_counts(counts: Mapping[str, Array], path: Path) -> None:
    """Write counts to one safetensors file, as int32: 4 bytes an ID."""
    from safetensors.numpy import save_file

    most = np.iinfo(np.int32).max
    save_file({name: np.minimum(x, most).astype(np.int32) for name, x in counts.items()}, path)


def load_counts(path: Path) -> dict[str, Array]:
    """Read what `save_counts` wrote, int64.

    Raises:
        UserError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: x.astype(np.int64) for name, x in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as counts of IDs: {error}") from error
