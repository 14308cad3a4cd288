"""torchrec's embedding collections, looked up in padded bags by a gather, a mask and a sum.

``EmbeddingBagCollection`` calls `torch.nn.EmbeddingBag`, which exports to a loop over bags: some
sixty times slower than the gather, and refused by TensorRT. This adds up the same rows of the same
tables.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from rankers.adapters.jagged import Bag, PaddedBags


@contextmanager
def gathered_bags(module: nn.Module) -> Iterator[None]:
    """Let every ``EmbeddingBagCollection`` in ``module`` take padded bags, as long as this holds.

    The forward is replaced on the instances and put back; weights are read where they are.
    """
    from torchrec import EmbeddingBagCollection

    collections = [each for each in module.modules() if type(each) is EmbeddingBagCollection]
    for each in collections:
        each.forward = _Gathered(each)
    try:
        yield
    finally:
        for each in collections:
            del each.forward


class _Gathered:
    """The forward of one collection over padded bags."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def __call__(self, features: PaddedBags) -> Any:
        """Return the ``KeyedTensor`` that the collection returns for the same bags."""
        from torchrec import KeyedTensor
        from torchrec.modules.embedding_modules import get_embedding_names_by_table

        collection = self._collection
        weighted = collection.is_weighted()
        configs = collection.embedding_bag_configs()
        pooled, lengths = [], []
        for config in configs:
            table = collection.embedding_bags[config.name]
            for name in config.feature_names:
                pooled.append(_pooled(table, _bag_of(features, name), weighted=weighted))
                lengths.append(config.embedding_dim)
        return KeyedTensor(
            keys=[key for keys in get_embedding_names_by_table(configs) for key in keys],
            values=torch.cat(pooled, dim=1),
            length_per_key=lengths,
        )


def _bag_of(features: PaddedBags, name: str) -> Bag:
    if name not in features.bags:
        raise UserError(
            f"the embedding bags read the key {name!r}, which the jagged tensor does not have; "
            f"{nearest(name, features.bags)}"
        )
    return features.bags[name]


def _pooled(table: nn.EmbeddingBag, bag: Bag, *, weighted: bool) -> Tensor:
    """Pool one key's bags, float32 ``[rows, D]``."""
    rows = functional.embedding(bag.ids, table.weight)  # [rows, L, D]
    if weighted and bag.weights is not None:
        rows = rows * bag.weights.to(rows.dtype).unsqueeze(-1)
    if bag.mask is None:
        pooled = rows.mean(1) if table.mode == "mean" else rows.sum(1)
        return pooled.float()
    filled = bag.mask.to(rows.dtype).unsqueeze(-1)  # [rows, L, 1]
    total = (rows * filled).sum(1)
    if table.mode == "mean":
        total = total / filled.sum(1).clamp(min=1.0)  # an empty bag gives zeros, as torchrec's does
    return total.float()
