"""DLRM: Naumov et al., Deep Learning Recommendation Model, 2019, arXiv:1906.00091.

A bottom MLP turns the dense features into one vector of the embeddings' width; the dots of every
pair among it and the embeddings join its output and go through the top MLP to one score.

The default sizes are those of MLPerf's DLRM benchmark on Criteo's data (MLPerf Training 0.7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rankers.errors import UserError
from rankers.zoo.layers import ClickRanker, FeatureEmbedding, dense_vector, inputs_of, mlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Signature

SMALL: dict[str, Any] = {"embedding": 32, "bottom": [128, 64], "top": [256, 128]}


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options of a DLRM that follow from its features.

    Raises:
        UserError: There is no float feature for the bottom MLP.
    """
    if not any(each.dtype.startswith("float") for each in signature.features):
        raise UserError("a DLRM needs a float feature for its bottom MLP; these are all IDs")
    return inputs_of(signature.features)


class DLRM(ClickRanker):
    """The ranker of the paper, one embedding table for each ID feature.

    Args:
        ids: The ID features; see `rankers.zoo.layers.inputs_of`. Bags are pooled to their sum.
        dense: Widths of the float features, by name; there is at least one.
        embedding: D, the width of every table.
        bottom: Widths of the bottom MLP's hidden layers; its last layer gives D.
        top: Widths of the top MLP's hidden layers; its last layer gives the score.
    """

    lower: Tensor
    upper: Tensor

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        dense: Mapping[str, int],
        *,
        embedding: int = 128,
        bottom: Sequence[int] = (512, 256),
        top: Sequence[int] = (1024, 1024, 512, 256),
    ) -> None:
        super().__init__()
        self.dense = tuple(dense)
        # The paper's uniform(±1/√n) makes small tables loud; IDs seen once or never should say
        # little, whatever the table's size.
        self.embedding = FeatureEmbedding(ids, embedding, pooling="sum", std=0.05)
        self.bottom = mlp((sum(dense.values()), *bottom, embedding), last_relu=True)
        vectors = len(ids) + 1
        # Pairs below the diagonal. Buffers, so that they move and export with the module;
        # not persistent, as they follow from the number of features.
        lower, upper = torch.tril_indices(vectors, vectors, offset=-1)
        self.register_buffer("lower", lower, persistent=False)
        self.register_buffer("upper", upper, persistent=False)
        self.top = mlp((embedding + len(lower), *top, 1))

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``: what training works on."""
        bottom = self.bottom(dense_vector(columns, self.dense))  # [B, D]
        vectors = torch.stack([bottom, *self.embedding(columns)], dim=1)  # [B, F + 1, D]
        dots = torch.bmm(vectors, vectors.transpose(1, 2))  # [B, F + 1, F + 1]
        pairs = dots[:, self.lower, self.upper]  # [B, (F + 1) F / 2]
        scores: Tensor = self.top(torch.cat([bottom, pairs], dim=1))  # [B, 1]
        return scores.squeeze(1)


build = DLRM
