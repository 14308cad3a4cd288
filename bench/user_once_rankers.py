"""Rankers of given sizes to measure the user-once rewrite on: ``bench/user_once_rankers.py:NAME``.

Untrained: latency does not depend on what weights hold, and the gates compare each artifact with
its own original. ``history`` has 2 encoder layers over 100 events of width 64 and an attention MLP
of 256-80-1; ``din`` a history of 50 events and 20 fields of width 32; ``dlrm`` 26 tables of 20,000
rows of width 64, of which 16 and the 13 floats are the user's.

Two have nothing to gain, and the flat program is kept: ``cross_encoder`` reads 8 tokens of the user
and 24 of the item together, in 2 layers of width 64; ``all_items`` has 20 fields of the item of
width 32 before layers of 256 and 128, and of the user one number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

_ITEMS = 50_000


class History(nn.Module):
    """A transformer over the history, then DIN's attention of the candidate over it."""

    def __init__(self, width: int = 64, events: int = 100, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.item, self.user = nn.Embedding(_ITEMS, width), nn.Embedding(10_000, width)
        self.position = nn.Parameter(torch.randn(events, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.attention = nn.Sequential(nn.Linear(4 * width, 80), nn.ReLU(), nn.Linear(80, 1))
        self.head = nn.Sequential(nn.Linear(3 * width, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, user_id: Tensor, history: Tensor, item_id: Tensor) -> Tensor:
        """Return a score for each row, ``[rows]``; ID 0 marks an absent event."""
        h = self.encoder(self.item(history) + self.position)  # [B, L, D]
        t = self.item(item_id)  # [B, D]
        repeated = t.unsqueeze(1).expand_as(h)
        pairs = torch.cat([h, repeated, h - repeated, h * repeated], dim=-1)
        weights = self.attention(pairs).masked_fill((history == 0).unsqueeze(-1), 0.0)  # [B, L, 1]
        found = (weights * h).sum(1)
        logits: Tensor = self.head(torch.cat([found, t, self.user(user_id)], dim=-1))
        return torch.sigmoid(logits.squeeze(-1))


def history() -> Ranker:
    """Return the ranker whose history is most of the work."""
    features = (
        Feature("user_id", "int64", side="user", cardinality=10_000),
        Feature("history", "int64", (100,), side="user", cardinality=_ITEMS, padding=0),
        Feature("item_id", "int64", side="item", cardinality=_ITEMS),
    )
    torch.manual_seed(0)
    return untrained("history", History(), features)


def din() -> Ranker:
    """Return a DIN of the zoo."""
    from rankers.zoo.din import DIN, options_for

    features = (
        Feature("history", "int64", (50,), side="user", cardinality=_ITEMS, padding=0),
        *(Feature(f"user_{n}", "int64", side="user", cardinality=5000) for n in range(10)),
        *(Feature(f"item_{n}", "int64", side="item", cardinality=5000) for n in range(9)),
        Feature("item", "int64", side="item", cardinality=_ITEMS),
    )
    torch.manual_seed(0)
    return untrained("din", DIN(**options_for(Signature(features)), embedding=32), features)


def dlrm() -> Ranker:
    """Return a DLRM of the zoo."""
    from rankers.zoo.dlrm import DLRM, options_for

    features = (
        Feature("dense", "float32", (13,), side="user"),
        *(Feature(f"user_{n}", "int64", side="user", cardinality=20_000) for n in range(16)),
        *(Feature(f"item_{n}", "int64", side="item", cardinality=20_000) for n in range(10)),
    )
    torch.manual_seed(0)
    module = DLRM(**options_for(Signature(features)), embedding=64, top=(512, 256))
    return untrained("dlrm", module, features)


def cross_encoder() -> Ranker:
    """Return a small cross-encoder of the zoo: both sides meet in its first layer."""
    from rankers.zoo.cross_encoder import SMALL, CrossEncoder, options_for

    tokens = 5000
    features = (
        Feature("query", "int64", (8,), side="user", cardinality=tokens, padding=0),
        Feature("document", "int64", (24,), side="item", cardinality=tokens, padding=0),
    )
    torch.manual_seed(0)
    module = CrossEncoder(**options_for(Signature(features)), **SMALL)
    return untrained("cross_encoder", module, features)


class AllItems(nn.Module):
    """An MLP over the item's fields; the user only shifts the score."""

    def __init__(self, fields: int = 20, width: int = 32) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(5000, width) for _ in range(fields))
        self.deep = nn.Sequential(
            nn.Linear(fields * width, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
            nn.Linear(128, 1),
        )  # fmt: skip

    def forward(self, age: Tensor, **items: Tensor) -> Tensor:
        """Return a score for each row, ``[rows]``."""
        fields = [table(x) for table, x in zip(self.tables, items.values(), strict=True)]
        logits: Tensor = self.deep(torch.cat(fields, dim=-1)).squeeze(-1)
        return torch.sigmoid(logits + 0.1 * age)


def all_items() -> Ranker:
    """Return a ranker whose work is all the item's."""
    features = (
        Feature("age", "float32", side="user"),
        *(Feature(f"item_{n}", "int64", side="item", cardinality=5000) for n in range(20)),
    )
    torch.manual_seed(0)
    return untrained("all_items", AllItems(), features)


def untrained(
    name: str,
    module: nn.Module,
    features: tuple[Feature, ...],
    *,
    requests: int = 16,
    candidates: int = 50,
) -> Ranker:
    """Return a ranker with requests made up for it, whose scores differ as a trained one's do."""
    signature = Signature(features)
    random = np.random.default_rng(0)
    batch = draw_requests(signature, random, requests=requests, candidates=candidates)
    scores = _spread(module.eval(), batch)
    labels = (random.random(batch.rows) < scores).astype(np.float32)
    return Ranker(name, module, signature, replace(batch, labels=labels))


def draw_requests(
    signature: Signature, random: np.random.Generator, *, requests: int, candidates: int
) -> RequestBatch:
    """Make up requests: IDs over the whole tables, numbers from a normal distribution."""

    def column(feature: Feature, rows: int) -> np.ndarray:
        shape = (rows, *feature.shape)
        if feature.cardinality is None:
            return random.standard_normal(shape).astype(feature.dtype)
        return random.integers(0, feature.cardinality, shape)

    return RequestBatch(
        user={each.name: column(each, requests) for each in signature.user},
        items={each.name: column(each, requests * candidates) for each in signature.item},
        offsets=np.arange(requests + 1) * candidates,
    )


def _spread(module: nn.Module, batch: RequestBatch) -> np.ndarray:
    """Let scores differ as a trained ranker's do: near ties would be turned by any rounding."""
    *_, last = (x for x in module.modules() if isinstance(x, nn.Linear) and x.out_features == 1)
    columns = {name: torch.from_numpy(x) for name, x in batch.flat().items()}
    with torch.no_grad():
        logits = torch.logit(module(**columns))
        last.weight /= logits.std()
        last.bias.copy_((last.bias - logits.mean()) / logits.std())
        scores: np.ndarray = module(**columns).numpy()
    return scores
