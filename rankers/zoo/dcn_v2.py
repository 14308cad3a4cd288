"""DCN-v2: Wang et al., DCN V2: Improved Deep & Cross Network, WWW 2021, arXiv:2008.13535.

Cross layers multiply the input vector, element by element, with a linear map of what came before:
x_{l+1} = x_0 ⊙ (W x_l + b) + x_l. The low-rank form has W = U Vᵀ; the mixture has several such
experts, each with nonlinearities in its small space, weighted by a softmax gate.

The default sizes are those of the paper's Criteo experiments: two cross layers and an MLP of
768 and 768 for 39-wide embeddings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from rankers.errors import UserError
from rankers.zoo.layers import ClickRanker, FeatureEmbedding, dense_vector, inputs_of, mlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Signature

SMALL: dict[str, Any] = {"embedding": 16, "deep": [128, 64]}


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options of a DCN-v2 that follow from its features."""
    return inputs_of(signature.features)


class DCNv2(ClickRanker):
    """Cross layers and an MLP over all features side by side.

    Args:
        ids: The ID features; see `rankers.zoo.layers.inputs_of`. Bags are pooled to their mean.
        dense: Widths of the float features, by name.
        embedding: The width of every table.
        cross_layers: How many.
        rank: Of the low-rank form's W; None for the full matrix.
        experts: Of the mixture; more than one needs a rank.
        deep: Widths of the MLP's hidden layers; none leaves the cross network alone.
        structure: ``stacked`` puts the MLP on top of the cross layers, ``parallel`` beside them.
    """

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        dense: Mapping[str, int],
        *,
        embedding: int = 39,
        cross_layers: int = 2,
        rank: int | None = None,
        experts: int = 1,
        deep: Sequence[int] = (768, 768),
        structure: Literal["stacked", "parallel"] = "stacked",
    ) -> None:
        super().__init__()
        if structure not in {"stacked", "parallel"}:
            raise UserError(f"structure is {structure!r}; expected 'stacked' or 'parallel'")
        if experts > 1 and rank is None:
            raise UserError(f"{experts} experts need a rank")
        self.dense, self.structure = tuple(dense), structure
        self.embedding = FeatureEmbedding(ids, embedding)
        width = len(ids) * embedding + sum(dense.values())
        self.cross = nn.ModuleList(_cross(width, rank, experts) for _ in range(cross_layers))
        self.deep = mlp((width, *deep), last_relu=True) if deep else nn.Identity()
        last = deep[-1] if deep else width
        self.top = nn.Linear(last + width if structure == "parallel" and deep else last, 1)
        self.parallel = structure == "parallel" and bool(deep)

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``."""
        dense = dense_vector(columns, self.dense)
        parts = self.embedding(columns) + ([] if dense is None else [dense])
        first = torch.cat(parts, dim=1)  # [B, width]
        crossed = first
        for layer in self.cross:
            crossed = first * layer(crossed) + crossed
        if self.parallel:
            last = torch.cat([crossed, self.deep(first)], dim=1)
        else:
            last = self.deep(crossed)
        scores: Tensor = self.top(last)
        return scores.squeeze(1)


class LowRank(nn.Module):
    """W x + b with W = U Vᵀ, as two products with whole batches."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, rank, bias=False)  # Vᵀ
        self.out = nn.Linear(rank, width)  # U and b

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, width]`` to ``[B, width]``."""
        mapped: Tensor = self.out(self.into(x))
        return mapped


class Mixture(nn.Module):
    """Several low-rank experts: Σ G_i(x) (U_i g(C_i g(V_iᵀ x)) + b) with g = tanh."""

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.into = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(experts))
        self.inner = nn.ModuleList(nn.Linear(rank, rank, bias=False) for _ in range(experts))
        self.out = nn.ModuleList(nn.Linear(rank, width, bias=False) for _ in range(experts))
        self.bias = nn.Parameter(torch.zeros(width))
        self.gate = nn.Linear(width, experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, width]`` to ``[B, width]``."""
        weights = torch.softmax(self.gate(x), dim=1)  # [B, experts]
        total = torch.zeros_like(x)
        for place, (into, inner, out) in enumerate(
            zip(self.into, self.inner, self.out, strict=True)
        ):
            mapped = out(torch.tanh(inner(torch.tanh(into(x))))) + self.bias
            total = total + weights[:, place : place + 1] * mapped
        return total


def _cross(width: int, rank: int | None, experts: int) -> nn.Module:
    if rank is None:
        return nn.Linear(width, width)
    return LowRank(width, rank) if experts == 1 else Mixture(width, rank, experts)


build = DCNv2
