"""Rankers for the user-once rewrite: one it is made for, and ones it must leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

FILE = Path(__file__)
EVENTS = 6

SIGNATURE = Signature(
    (
        Feature("history", "int64", (EVENTS,), side="user", cardinality=50, padding=0),
        Feature("age", "float32", (2,), side="user"),
        Feature("item", "int64", side="item", cardinality=50),
        Feature("price", "float32", side="item"),
    ),
    score="logit",
)


class Attending(nn.Module):
    """An encoded history, a target attention over [h, t, h - t, h * t], and an MLP."""

    def __init__(self):
        super().__init__()
        self.item = nn.Embedding(50, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.attention = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 1))
        self.head = nn.Sequential(nn.Linear(19, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, history, age, item, price):
        h = self.encoder(self.item(history))  # [rows, L, 8]
        t = self.item(item)
        repeated = t.unsqueeze(1).expand_as(h)
        pairs = torch.cat([h, repeated, h - repeated, h * repeated], dim=-1)
        weights = self.attention(pairs).masked_fill((history == 0).unsqueeze(-1), 0.0)
        found = (weights * h).sum(1)
        return self.head(torch.cat([found, age, t, price.unsqueeze(1)], dim=1)).squeeze(1)


class Bags(nn.Module):
    """Embedding bags of both sides: summed, averaged without padding, and the largest of each."""

    def __init__(self):
        super().__init__()
        self.summed = nn.EmbeddingBag(50, 4, mode="sum")
        self.mean = nn.EmbeddingBag(50, 4, mode="mean", padding_idx=0)
        self.largest = nn.EmbeddingBag(50, 4, mode="max", padding_idx=0)
        self.item = nn.Embedding(50, 12)

    def forward(self, history, age, item, price):
        bags = [self.summed(history), self.mean(history), self.largest(history)]
        user = torch.cat(bags, dim=1)
        return (user * self.item(item)).sum(1) + age.sum(1) * price


class AllItem(nn.Module):
    """Nothing to speak of depends on the user alone."""

    def __init__(self):
        super().__init__()
        self.item = nn.Embedding(50, 64)
        self.deep = nn.Sequential(nn.Linear(65, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, history, age, item, price):
        x = torch.cat([self.item(item), price.unsqueeze(1)], dim=1)
        return self.deep(x).squeeze(1) + history[:, 0] * 0.01 + age[:, 0]


def requests(count=12, seed=0):
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(1, 12, count))]).astype(np.int64)
    rows = int(offsets[-1])
    history = random.integers(0, 50, (count, EVENTS))
    history[0] = 0  # a user without events
    return RequestBatch(
        user={
            "history": history,
            "age": random.standard_normal((count, 2)).astype(np.float32),
        },
        items={
            "item": random.integers(0, 50, rows),
            "price": random.standard_normal(rows).astype(np.float32),
        },
        offsets=offsets,
        labels=random.integers(0, 2, rows).astype(np.float32),
    )


def _ranker(name, kind):
    torch.manual_seed(0)
    return Ranker(name, kind().eval(), SIGNATURE, requests())


def attending():
    return _ranker("attending", Attending)


def bags():
    return _ranker("bags", Bags)


def all_item():
    return _ranker("all_item", AllItem)
