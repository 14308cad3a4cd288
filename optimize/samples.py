"""Random, valid columns and requests of a signature: what graphs are tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from rankers.features import Feature, Signature
    from rankers.requests import Array, Columns


def sample_requests(signature: Signature, counts: Sequence[int]) -> RequestBatch:
    """Return random, valid requests with ``counts`` candidates."""
    users, items = (sample_columns(signature, rows) for rows in (len(counts), sum(counts)))
    return RequestBatch(
        user={each.name: users[each.name] for each in signature.user},
        items={each.name: items[each.name] for each in signature.item},
        offsets=np.concatenate([[0], np.cumsum(counts)]),
    )


def sample_columns(signature: Signature, rows: int) -> Columns:
    """Return random, valid columns in the signature's order: ``[rows, …]`` each."""
    random = np.random.default_rng(rows)
    return {each.name: _sample(each, rows, random) for each in signature.features}


def sample_tensors(signature: Signature) -> Callable[[int], Mapping[str, Tensor]]:
    """Return a function from a number of rows to random, valid columns as tensors."""
    import torch

    def sample(rows: int) -> Mapping[str, Tensor]:
        columns = sample_columns(signature, rows)
        return {name: torch.from_numpy(column) for name, column in columns.items()}

    return sample


def _sample(feature: Feature, rows: int, random: np.random.Generator) -> Array:
    shape = (rows, *feature.shape)
    if feature.dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if feature.dtype.startswith("int"):
        # Without a cardinality nothing is known of the range but that 0 and 1 are likely in it.
        return random.integers(0, feature.cardinality or 2, shape).astype(feature.dtype)
    return random.standard_normal(shape).astype(feature.dtype)
