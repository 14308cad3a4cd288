"""DLRM: Naumov et al., Deep Learning Recommendation Model, 2019, arXiv:1906.00091.

A bottom MLP turns the dense vector into one of the embeddings' width; the dots of every pair among
it and the embeddings join its output and go through the top MLP to one score.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Signature


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options of a DLRM for features ``dense`` and IDs."""
    return {
        "cardinalities": {
            each.name: each.cardinality for each in signature.features if each.name != "dense"
        },
        "dense": signature.feature("dense").width,
    }


def build(**options: Any) -> DLRM:
    """Make an untrained DLRM."""
    return DLRM(**options)


class DLRM(nn.Module):
    """The ranker of the paper, one embedding table for each category.

    Args:
        cardinalities: How many IDs each category has, by its name.
        dense: The width of the dense vector.
        embedding: D, the width of every table.
        bottom: Widths of the bottom MLP's hidden layers; its last layer gives D.
        top: Widths of the top MLP's hidden layers; its last layer gives the score.
    """

    lower: Tensor
    upper: Tensor

    def __init__(
        self,
        cardinalities: Mapping[str, int],
        *,
        dense: int = 13,
        embedding: int = 32,
        bottom: Sequence[int] = (128, 64),
        top: Sequence[int] = (256, 128),
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(size, embedding) for name, size in cardinalities.items()}
        )
        for weight in self.tables.parameters():
            # The paper's uniform(±1/√n) makes small tables loud; IDs seen once or never should
            # say little, whatever the table's size.
            nn.init.normal_(weight, std=0.05)
        self.bottom = _mlp((dense, *bottom, embedding), last_relu=True)
        vectors = len(cardinalities) + 1
        # Pairs below the diagonal. Buffers, so that they move and export with the module;
        # not persistent, as they follow from the number of categories.
        lower, upper = torch.tril_indices(vectors, vectors, offset=-1)
        self.register_buffer("lower", lower, persistent=False)
        self.register_buffer("upper", upper, persistent=False)
        self.top = _mlp((embedding + len(lower), *top, 1), last_relu=False)

    def forward(self, dense: Tensor, **categorical: Tensor) -> Tensor:
        """Return the click probability of each row, float32 ``[rows]``.

        Args:
            dense: float32 ``[rows, dense]``.
            categorical: IDs by the category's name, int64 ``[rows]`` each.
        """
        return torch.sigmoid(self.logits(dense, **categorical))

    def logits(self, dense: Tensor, **categorical: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``: what training works on."""
        bottom = self.bottom(dense)  # [B, D]
        embedded = [table(categorical[name]) for name, table in self.tables.items()]
        vectors = torch.stack([bottom, *embedded], dim=1)  # [B, F + 1, D]
        dots = torch.bmm(vectors, vectors.transpose(1, 2))  # [B, F + 1, F + 1]
        pairs = dots[:, self.lower, self.upper]  # [B, (F + 1) F / 2]
        scores: Tensor = self.top(torch.cat([bottom, pairs], dim=1))  # [B, 1]
        return scores.squeeze(1)


def _mlp(widths: Sequence[int], *, last_relu: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs))
        if last_relu or number < len(widths) - 2:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
