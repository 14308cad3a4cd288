"""DeepFM: Guo et al., DeepFM: A Factorization-Machine based Neural Network, IJCAI 2017.

A factorization machine and an MLP share the embeddings; their scores are added. The FM's second
order is half of (square of the sum) - (sum of the squares), which is linear in the features.

The default sizes are the paper's: embeddings of 10, an MLP of 400, 400 and 400.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rankers.zoo.layers import ClickRanker, FeatureEmbedding, dense_vector, inputs_of, mlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Signature

SMALL: dict[str, Any] = {"embedding": 10, "deep": [128, 64]}
TRAINING: dict[str, Any] = {"table_learning_rate": 0.02}


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options of a DeepFM that follow from its features."""
    return inputs_of(signature.features)


class DeepFM(ClickRanker):
    """First order, second order and an MLP.

    Args:
        ids: The ID features; see `rankers.zoo.layers.inputs_of`. Bags are pooled to their mean.
        dense: Widths of the float features, by name: each number is a field with a vector of its
            own, times its value.
        embedding: K, the width of every table.
        deep: Widths of the MLP's hidden layers.
        dropout: After each of them, in training.
    """

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        dense: Mapping[str, int],
        *,
        embedding: int = 10,
        deep: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dense = tuple(dense)
        numbers = sum(dense.values())
        self.first = FeatureEmbedding(ids, 1, std=0.01)
        self.embedding = FeatureEmbedding(ids, embedding)
        self.first_dense = nn.Linear(numbers, 1) if numbers else None
        self.dense_vectors = nn.Parameter(torch.randn(numbers, embedding) * 0.05)
        fields = len(ids) + numbers
        self.deep = mlp((fields * embedding, *deep, 1), dropout=dropout)
        self.bias = nn.Parameter(torch.zeros(1))

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``."""
        vectors = torch.stack(self.embedding(columns), dim=1)  # [B, F, K]
        order = torch.cat(self.first(columns), dim=1).sum(1)  # [B]
        dense = dense_vector(columns, self.dense)
        if dense is not None and self.first_dense is not None:
            order = order + self.first_dense(dense).squeeze(1)
            weighted = dense.unsqueeze(2) * self.dense_vectors  # [B, numbers, K]
            vectors = torch.cat([vectors, weighted], dim=1)
        square_of_sum = vectors.sum(1).square()  # [B, K]
        sum_of_squares = vectors.square().sum(1)
        second = 0.5 * (square_of_sum - sum_of_squares).sum(1)
        scores: Tensor = order + second + self.deep(vectors.flatten(1)).squeeze(1) + self.bias
        return scores


build = DeepFM
