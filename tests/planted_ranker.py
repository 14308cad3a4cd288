"""A ranker of which it is known what matters: a loud table, a spoilt layer, and what is unread."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

SIGNATURE = Signature(
    (
        Feature("user", "int64", side="user", cardinality=200),
        Feature("mood", "float32", side="user"),
        Feature("item", "int64", side="item", cardinality=300),
        Feature("shelf", "int64", side="item", cardinality=100),
        Feature("idle", "int64", side="item", cardinality=150),
    ),
    score="logit",
)
LOUD, QUIET, UNREAD = "loud", "quiet", "unread"


class Planted(nn.Module):
    """Layers: `spoilt`, whose scales suffer from weights that meet zeros only; `fine`; `last`."""

    def __init__(self):
        super().__init__()
        self.loud = nn.Embedding(300, 16)
        self.quiet = nn.Embedding(200, 16)
        self.shelf = nn.Embedding(100, 16)
        self.unread = nn.Embedding(150, 16)
        self.spoilt = nn.Linear(49, 32)
        self.fine = nn.Linear(32, 32)
        self.last = nn.Linear(32, 1)
        with torch.no_grad():
            self.loud.weight.mul_(3)
            self.loud.weight[7] = 300  # an outlier: rows have scales of their own
            self.quiet.weight.mul_(0.02)
            self.spoilt.weight[:, 48] = 60

    def forward(self, user, mood, item, shelf, idle):
        nothing = (0 * mood)[:, None] + 0 * self.unread(idle).sum(1, keepdim=True)
        x = torch.cat([self.loud(item), self.quiet(user), self.shelf(shelf), nothing], dim=1)
        hidden = torch.relu(self.fine(torch.relu(self.spoilt(x))))
        return self.last(hidden).squeeze(-1)


def requests(count, seed, *, labels=True):
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(2, 20, count))]).astype(np.int64)
    rows = int(offsets[-1])
    batch = RequestBatch(
        {
            "user": random.integers(0, 200, count),
            "mood": random.standard_normal(count).astype(np.float32),
        },
        {
            "item": random.integers(8, 300, rows),
            "shelf": random.integers(0, 100, rows),
            "idle": random.integers(0, 150, rows),
        },
        offsets,
    )
    clicks = random.integers(0, 2, rows).astype(np.float32) if labels else None
    return RequestBatch(batch.user, batch.items, batch.offsets, clicks)


def planted(*, labels=True, calibration=60):
    torch.manual_seed(0)
    module = Planted().eval()
    learnt = requests(calibration, 1, labels=labels) if calibration else None
    return Ranker("planted", module, SIGNATURE, requests(30, 2), calibration=learnt)
