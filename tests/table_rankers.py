"""A ranker with tables of every kind that the stages for tables meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

FILE = Path(__file__)

SIGNATURE = Signature(
    (
        Feature("user_id", "int64", side="user", cardinality=400),
        Feature("history", "int64", (6,), side="user", cardinality=300, padding=0),
        Feature("tags", "int64", (4,), side="user", cardinality=300, padding=0),
        Feature("region", "int64", side="user", cardinality=260),
        Feature("item", "int64", side="item", cardinality=300),
        Feature("word", "int64", side="item", cardinality=256),
        Feature("kind", "int64", side="item", cardinality=20),
        Feature("price", "float32", side="item"),
    ),
    score="logit",
)


class Shop(nn.Module):
    """The item's table is the history's too; the user's has an odd width; words are tied."""

    def __init__(self):
        super().__init__()
        self.user = nn.Embedding(400, 7)
        self.item = nn.Embedding(300, 16, padding_idx=0)
        self.tags = nn.EmbeddingBag(300, 12, mode="sum", padding_idx=0)
        self.region = nn.Parameter(torch.randn(260, 4))
        self.word = nn.Embedding(256, 16)
        self.kind = nn.Embedding(20, 16)
        self.deep = nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 16))

    def forward(self, *, user_id, history, tags, region, item, word, kind, price):
        past = self.item(history).sum(1)  # [rows, 16]
        own = [self.user(user_id), self.tags(tags), self.region[region], past, price[:, None]]
        user = self.deep(torch.cat(own, dim=1))
        near = torch.softmax(user @ self.word.weight.T, dim=1).amax(1)
        return (user * (self.item(item) + self.word(word) + self.kind(kind))).sum(1) + near


def requests(count=12, seed=0):
    random = np.random.default_rng(seed)
    counts = random.integers(1, 12, count)
    columns = {}
    for each in SIGNATURE.features:
        rows = count if each.side == "user" else int(counts.sum())
        if each.dtype == "int64":
            columns[each.name] = random.integers(0, each.cardinality, (rows, *each.shape))
        else:
            columns[each.name] = random.standard_normal(rows).astype(np.float32)
    columns["history"][0] = 0  # a user without events
    return RequestBatch(
        user={each.name: columns[each.name] for each in SIGNATURE.user},
        items={each.name: columns[each.name] for each in SIGNATURE.item},
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        labels=random.integers(0, 2, int(counts.sum())).astype(np.float32),
    )


def shop():
    torch.manual_seed(0)
    return Ranker("shop", Shop().eval(), SIGNATURE, requests())
