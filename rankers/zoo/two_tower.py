"""Two towers: Huang et al. (DSSM), CIKM 2013; Yi et al., Sampling-Bias-Corrected, RecSys 2019.

One MLP turns the user's features into a vector, another the item's; the score is their dot product
times a learned scale, plus a bias. The item tower reads nothing of the user, so its vectors can be
made ahead of time over a catalogue; `PrecomputedItems` then ranks from the vectors alone.

The default sizes are those of Covington et al. (YouTube, RecSys 2016): towers of 1024, 512 and 256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.zoo.layers import ClickRanker, FeatureEmbedding, dense_vector, inputs_of, mlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SMALL: dict[str, Any] = {"embedding": 16, "towers": [], "width": 32}
TRAINING: dict[str, Any] = {
    "batch_rows": 256,
    "learning_rate": 0.004,
    "table_learning_rate": 0.15,
}
ITEM_VECTOR = "item_vector"


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options of two towers that follow from their features.

    Raises:
        UserError: No feature is the user's.
    """
    if not signature.user:
        raise UserError("two towers need features of the user; these are all the item's")
    return {"user": inputs_of(signature.user), "item": inputs_of(signature.item)}


class Tower(nn.Module):
    """Features of one side to a vector of length 1.

    Args:
        ids: The ID features; see `rankers.zoo.layers.inputs_of`. Bags are pooled to their mean.
        dense: Widths of the float features, by name.
        embedding: The width of every table.
        hidden: Widths of the MLP's hidden layers.
        width: Of the vector.
    """

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        dense: Mapping[str, int],
        *,
        embedding: int,
        hidden: Sequence[int],
        width: int,
    ) -> None:
        super().__init__()
        self.dense = tuple(dense)
        self.embedding = FeatureEmbedding(ids, embedding)
        self.mlp = mlp((len(ids) * embedding + sum(dense.values()), *hidden, width))

    def forward(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return the vectors, ``[rows, width]``."""
        dense = dense_vector(columns, self.dense)
        parts = self.embedding(columns) + ([] if dense is None else [dense])
        return functional.normalize(self.mlp(torch.cat(parts, dim=1)), dim=1)


class TwoTower(ClickRanker):
    """A user tower, an item tower and the dot of their vectors.

    Args:
        user: ``ids`` and ``dense`` of the user's side; see `rankers.zoo.layers.inputs_of`.
        item: Those of the item's side.
        embedding: The width of every table.
        towers: Widths of both MLPs' hidden layers.
        width: Of the vectors.
    """

    def __init__(
        self,
        user: Mapping[str, Any],
        item: Mapping[str, Any],
        *,
        embedding: int = 64,
        towers: Sequence[int] = (1024, 512),
        width: int = 256,
    ) -> None:
        super().__init__()
        sizes: dict[str, Any] = {"embedding": embedding, "hidden": towers, "width": width}
        self.user_tower = Tower(user["ids"], user["dense"], **sizes)
        self.item_tower = Tower(item["ids"], item["dense"], **sizes)
        # 1 / temperature, learned, and the log-odds of a dot of 0.
        self.scale = nn.Parameter(torch.tensor(4.0))
        self.bias = nn.Parameter(torch.zeros(()))

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``."""
        return self.match(self.user_tower(columns), self.item_tower(columns))

    def match(self, user: Tensor, item: Tensor) -> Tensor:
        """Return the log-odds for vectors, ``[rows, width]`` each."""
        logits: Tensor = (user * item).sum(1) * self.scale + self.bias
        return logits

    def item_vectors(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return the vectors of a catalogue, ``[items, width]``.

        Args:
            columns: The item's features, ``[items, …]``.
        """
        vectors: Tensor = self.item_tower(columns)
        return vectors


class PrecomputedItems(ClickRanker):
    """Scores a user against vectors that the item tower made ahead of time.

    Its features are the user's and `ITEM_VECTOR`, float32 ``[width]``; see `signature_of`.
    """

    def __init__(self, towers: TwoTower) -> None:
        super().__init__()
        self.user_tower = towers.user_tower
        self.scale, self.bias = towers.scale, towers.bias

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``."""
        dots = (self.user_tower(columns) * columns[ITEM_VECTOR]).sum(1)
        logits: Tensor = dots * self.scale + self.bias
        return logits

    @staticmethod
    def signature_of(signature: Signature, width: int) -> Signature:
        """Return the signature with a vector of ``width`` in place of the item's features."""
        vector = Feature(ITEM_VECTOR, "float32", (width,))
        return Signature((*signature.user, vector), signature.score)


build = TwoTower
