"""DIN: Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018.

Each event of the history gets a weight that depends on the candidate: an MLP over the event, the
candidate, their difference and their product. The weighted sum, without a softmax so that its
length says how strong the interest is, goes into an MLP with the candidate and all other features.

The default sizes are those of the authors' code: embeddings of 64, attention of 80 and 40, an MLP
of 80 and 40, Dice activations.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from rankers.errors import UserError
from rankers.zoo.histories import Events, history_options
from rankers.zoo.layers import ClickRanker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Signature

SMALL: dict[str, Any] = {"embedding": 8, "attention": [32, 16], "deep": [64, 32]}
TRAINING: dict[str, Any] = {
    "batch_rows": 256,
    "learning_rate": 0.004,
    "table_learning_rate": 0.15,
}

Activation = Literal["dice", "prelu"]


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options of a DIN that follow from its features; one is a history."""
    return history_options(signature)


class DIN(ClickRanker):
    """A local activation unit over the history, and an MLP.

    Args:
        ids: The ID features; see `rankers.zoo.layers.inputs_of`. Bags that are no histories are
            pooled to their mean.
        dense: Widths of the float features, by name.
        histories: For each history, the item feature that it is a history of.
        embedding: The width of every table.
        attention: Widths of the activation unit's hidden layers.
        deep: Widths of the MLP's hidden layers.
        activation: ``dice`` or ``prelu``.
    """

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        dense: Mapping[str, int],
        histories: Mapping[str, str],
        *,
        embedding: int = 64,
        attention: Sequence[int] = (80, 40),
        deep: Sequence[int] = (80, 40),
        activation: Activation = "dice",
    ) -> None:
        super().__init__()
        if activation not in {"dice", "prelu"}:
            raise UserError(f"activation is {activation!r}; expected 'dice' or 'prelu'")
        self.events = Events(ids, dense, histories, embedding)
        width = self.events.width
        self.attention = _mlp((4 * width, *attention, 1), activation)
        self.deep = _mlp((2 * width + self.events.others_width, *deep, 1), activation)

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``."""
        events, mask, target, others = self.events(columns)
        weights = self.weights(events, target) * mask.to(events.dtype)  # [B, L]
        interest = (weights.unsqueeze(2) * events).sum(1)  # [B, width]
        scores: Tensor = self.deep(torch.cat([interest, target, others], dim=1))
        return scores.squeeze(1)

    def weights(self, events: Tensor, target: Tensor) -> Tensor:
        """Return each event's weight for the candidate, ``[B, L]``."""
        repeated = target.unsqueeze(1).expand_as(events)
        pairs = torch.cat([events, repeated, events - repeated, events * repeated], dim=2)
        weights: Tensor = self.attention(pairs)
        return weights.squeeze(2)


class Dice(nn.Module):
    """p x + (1 - p) a x, with p the sigmoid of x, standardized by its batch in training.

    In evaluation the running mean and variance stand for the batch's, as in batch norm.

    Args:
        width: Of the last dimension; a is learned for each of its places.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=1e-8, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[…, width]`` to the same shape."""
        p = torch.sigmoid(self.norm(x.flatten(0, -2)).reshape(x.shape))
        return p * x + (1 - p) * self.alpha * x


class PReLU(nn.Module):
    """max(0, x) + a min(0, x), with an a for each place of the last dimension.

    `nn.PReLU` has them for the second dimension.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((width,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[…, width]`` to the same shape."""
        return x.clamp(min=0) + self.alpha * x.clamp(max=0)


def _mlp(widths: Sequence[int], activation: Activation) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs))
        if number < len(widths) - 2:
            layers.append(Dice(outputs) if activation == "dice" else PReLU(outputs))
    return nn.Sequential(*layers)


build = DIN
