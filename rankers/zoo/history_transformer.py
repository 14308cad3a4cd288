"""A transformer over the history, read by the candidate.

Two encoder layers let events see one another, as in Kang and McAuley (SASRec, ICDM 2018) and Chen
et al. (Behavior Sequence Transformer, DLP-KDD 2019); the candidate then attends to the encoded
events, and an MLP scores what it finds with the candidate and all other features. The encoder
reads nothing of the candidate, so one user's history needs encoding once for all candidates.

The default sizes: width 64, 2 layers of 2 heads, 100 events, an MLP of 1024, 512 and 256 (BST's).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankers.errors import UserError
from rankers.zoo.histories import Events, history_options
from rankers.zoo.layers import ClickRanker, mlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Signature

SMALL: dict[str, Any] = {"embedding": 16, "width": 32, "heads": 1, "deep": [64, 32]}
TRAINING: dict[str, Any] = {
    "batch_rows": 64,
    "learning_rate": 0.004,
    "table_learning_rate": 0.15,
}
_FAR_BELOW = -1e9  # finite: a row without events must not become NaN


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options that follow from the features; one is a history."""
    options = history_options(signature)
    first = next(iter(options["histories"]))
    return options | {"events": signature.feature(first).width}


class HistoryTransformer(ClickRanker):
    """Encoder layers over events, target attention, and an MLP.

    Args:
        ids: The ID features; see `rankers.zoo.layers.inputs_of`. Bags that are no histories are
            pooled to their mean.
        dense: Widths of the float features, by name.
        histories: For each history, the item feature that it is a history of.
        events: The most events a history has.
        embedding: The width of every table.
        width: Of the encoder.
        layers: Of the encoder.
        heads: Of its attention, and of the candidate's.
        deep: Widths of the MLP's hidden layers.
    """

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        dense: Mapping[str, int],
        histories: Mapping[str, str],
        *,
        events: int = 100,
        embedding: int = 64,
        width: int = 64,
        layers: int = 2,
        heads: int = 2,
        deep: Sequence[int] = (1024, 512, 256),
    ) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"width {width} is not a multiple of {heads} heads")
        # Loud enough from the start for likeness to show in attention's dot products.
        self.events = Events(ids, dense, histories, embedding, std=embedding**-0.5)
        self.into = nn.Linear(self.events.width, width)
        self.position = nn.Embedding(events, width)
        nn.init.normal_(self.position.weight, std=0.05)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads) for _ in range(layers))
        self.target_attention = Attention(width, heads)
        # Alike is near from the start: a candidate finds the events that are like it.
        self.target_attention.k.load_state_dict(self.target_attention.q.state_dict())
        self.deep = mlp((1 + 2 * width + self.events.width + self.events.others_width, *deep, 1))

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``."""
        events, mask, target, others = self.events(columns)
        encoded = self.encode(events, mask)
        query = self.into(target)  # [B, width], in the events' space
        found = self.target_attention(query.unsqueeze(1), encoded, mask).squeeze(1)  # [B, width]
        # Attention averages: it cannot tell how many events it rests on.
        size = mask.to(found.dtype).sum(1, keepdim=True).log1p()  # [B, 1]
        scores: Tensor = self.deep(torch.cat([size, found, found * query, target, others], dim=1))
        return scores.squeeze(1)

    def encode(self, events: Tensor, mask: Tensor) -> Tensor:
        """Return the encoded events, ``[B, L, width]``.

        Args:
            events: Embedded, ``[B, L, …]``.
            mask: Which places are filled, bool ``[B, L]``; the newest event is the last of them.
        """
        # Places count back from the newest event: what it stands at says how old an event is.
        places = mask.to(torch.int64)
        age = places.sum(1, keepdim=True) - places.cumsum(1)  # 0 for the newest
        x: Tensor = self.into(events) + self.position(age)
        for layer in self.encoder:
            x = layer(x, mask)
        return x


class Attention(nn.Module):
    """Multi-head attention in plain operators, which every exporter knows.

    Args:
        width: Of queries, keys and values.
        heads: The width is a multiple of them.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Read ``events`` ``[B, L, width]`` with queries ``[B, Q, width]``.

        Returns:
            ``[B, Q, width]``; for a row without events, what the output layer makes of zeros.
        """
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, ·, width / heads]
            for layer, x in ((self.q, query), (self.k, events), (self.v, events))
        )
        bias = torch.where(mask, 0.0, _FAR_BELOW)[:, None, None, :]  # [B, 1, 1, L]
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        read = read * mask.any(1)[:, None, None, None]
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out


class EncoderLayer(nn.Module):
    """Attention among events and an MLP, each added to its normalized input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = mlp((width, 4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map events ``[B, L, width]`` to the same shape."""
        normal = self.before_attention(x)
        x = x + self.attention(normal, normal, mask)
        encoded: Tensor = x + self.mlp(self.before_mlp(x))
        return encoded


build = HistoryTransformer
