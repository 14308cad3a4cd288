"""What several rankers of the zoo are made of: embeddings of all features, and MLPs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Feature

Pooling = Literal["mean", "sum"]


def inputs_of(features: Sequence[Feature]) -> dict[str, dict[str, Any]]:
    """Return features as JSON-ready options of `FeatureEmbedding`.

    Integer features become ``ids``, by name ``{"cardinality", "padding"}``, where padding is None
    for a single ID. Float features become ``dense``, by name their width.
    """
    ids: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    for each in features:
        if each.dtype.startswith("int"):
            ids[each.name] = {"cardinality": each.cardinality, "padding": each.padding}
        else:
            dense[each.name] = each.width
    return {"ids": ids, "dense": dense}


class FeatureEmbedding(nn.Module):
    """A table for each ID feature; a bag of IDs is pooled to one vector.

    Args:
        ids: By feature name its ``cardinality`` and ``padding``; see `inputs_of`.
        width: D, of every table.
        pooling: Of bags: the mean of the IDs' rows, or their sum. An empty bag gives zeros.
        std: Of the tables' initial values.
    """

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        width: int,
        *,
        pooling: Pooling = "mean",
        std: float = 0.05,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.paddings = {name: spec["padding"] for name, spec in ids.items()}
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(int(spec["cardinality"] or 0), width) for name, spec in ids.items()}
        )
        for weight in self.tables.parameters():
            nn.init.normal_(weight, std=std)

    def forward(self, columns: Mapping[str, Tensor]) -> list[Tensor]:
        """Return a vector for each feature in order, ``[rows, D]`` each.

        Args:
            columns: Integers by feature name, ``[rows]``, or ``[rows, L]`` for a bag.
        """
        vectors = []
        for name, table in self.tables.items():
            padding, column = self.paddings[name], columns[name]
            rows = table(column)  # [rows, D] or [rows, L, D]
            vectors.append(rows if padding is None else pool(rows, column != padding, self.pooling))
        return vectors


def pool(rows: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pool bags of embedded IDs: a gather, a mask and a sum, which every runtime does fast.

    `nn.EmbeddingBag` says the same, but exports to a loop over bags.

    Args:
        rows: ``[rows, L, D]``.
        mask: Which places are filled, bool ``[rows, L]``.
        pooling: ``mean`` or ``sum``.

    Returns:
        ``[rows, D]``.
    """
    weights = mask.to(rows.dtype).unsqueeze(-1)  # [rows, L, 1]
    total = (rows * weights).sum(1)  # [rows, D]
    return total if pooling == "sum" else total / weights.sum(1).clamp(min=1.0)


def mlp(widths: Sequence[int], *, last_relu: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """Return linear layers of the given widths with ReLU between them.

    Args:
        widths: Of the input and of every layer's output.
        last_relu: Whether the last layer has a ReLU as well.
        dropout: After each ReLU but the last layer's.
    """
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs))
        last = number == len(widths) - 2
        if last_relu or not last:
            layers.append(nn.ReLU())
        if dropout and not last:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def dense_vector(columns: Mapping[str, Tensor], names: Sequence[str]) -> Tensor | None:
    """Put float features side by side, ``[rows, width]``; None where there are none."""
    parts = [columns[name] for name in names]
    parts = [each.unsqueeze(1) if each.dim() == 1 else each.flatten(1) for each in parts]
    return torch.cat(parts, dim=1) if parts else None


class ClickRanker(nn.Module):
    """A ranker whose score is the probability of a click: the sigmoid of its ``logits``."""

    def forward(self, **columns: Tensor) -> Tensor:
        """Return the score of each row, float32 ``[rows]``, between 0 and 1.

        Args:
            columns: By name, floats ``[rows]`` or ``[rows, width]``, and IDs int64 ``[rows]`` or
                ``[rows, L]``.
        """
        return torch.sigmoid(self.logits(**columns))

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the score before the sigmoid, ``[rows]``: what training works on."""
        raise NotImplementedError
