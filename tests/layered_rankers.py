"""Rankers of dense layers in every arrangement that pruning meets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch
from rankers.zoo.din import Dice

FILE = Path(__file__)

SIGNATURE = Signature(
    (
        Feature("profile", "float32", (40,), side="user"),
        Feature("item", "int64", side="item", cardinality=30),
        Feature("price", "float32", (3,), side="item"),
    ),
    score="logit",
)


class Layered(nn.Module):
    """What all have: a table, and 51 inputs of both sides."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 8)
        self.build()

    def build(self):
        raise NotImplementedError

    def forward(self, *, profile, item, price):
        return self.score(torch.cat([profile, self.table(item), price], dim=1)).squeeze(1)


class Plain(Layered):
    def build(self):
        self.layers = nn.Sequential(
            nn.Linear(51, 32), nn.ReLU(), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 1)
        )

    def score(self, x):
        return self.layers(x)


class Residual(Layered):
    """Two blocks that add to what they read."""

    def build(self):
        self.into = nn.Linear(51, 16)
        self.inner = nn.ModuleList(nn.Linear(16, 24) for _ in range(2))
        self.outer = nn.ModuleList(nn.Linear(24, 16) for _ in range(2))
        self.top = nn.Linear(16, 1)

    def score(self, x):
        x = self.into(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = x + outer(functional.silu(inner(x)))
        return self.top(x)


class Branches(Layered):
    """Three branches side by side, one of them as it comes; one layer read twice."""

    def build(self):
        self.left, self.right = nn.Linear(51, 12), nn.Linear(51, 20)
        self.top = nn.Linear(83, 16)
        self.twice = nn.Linear(16, 16)
        self.last = nn.Linear(16, 1)

    def score(self, x):
        x = torch.cat([torch.relu(self.left(x)), x, torch.tanh(self.right(x))], dim=-1)
        x = torch.relu(self.top(x))
        return self.last(torch.relu(self.twice(torch.relu(self.twice(x)))))


class Normalized(Layered):
    """Parameters for each neuron: batch norms, PReLU, Dice; and a third dimension."""

    def build(self):
        self.first, self.norm, self.prelu = nn.Linear(51, 16), nn.BatchNorm1d(16), nn.PReLU(16)
        self.second, self.third = nn.Linear(16, 24), nn.Linear(24, 16)
        self.dice = Dice(24)
        self.top = nn.Linear(16, 1)
        for each in (self.norm, self.dice.norm):
            each.running_mean.normal_()
            each.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.dice.alpha)
        nn.init.uniform_(self.prelu.weight)

    def score(self, x):
        x = self.prelu(self.norm(self.first(x)))  # [rows, 16]
        places = torch.stack([x, x * 0.5, x - 1], dim=1)  # [rows, 3, 16]
        x = torch.sigmoid(self.third(self.dice(self.second(places))))
        return self.top(x.sum(1))


class FeedForward(Layered):
    """A transformer's: the stream goes through layer norms, the inner layer does not."""

    def build(self):
        self.into, self.inner, self.outer = nn.Linear(51, 16), nn.Linear(16, 48), nn.Linear(48, 16)
        self.norm = nn.LayerNorm(16)
        self.top = nn.Linear(16, 1)

    def score(self, x):
        x = self.into(x)
        return self.top(self.norm(x + self.outer(functional.gelu(self.inner(x)))))


class Cross(Layered):
    """DCN-v2: x0 ⊙ (W x + b) + x, and an MLP."""

    def build(self):
        self.cross, self.deep, self.top = nn.Linear(51, 51), nn.Linear(51, 24), nn.Linear(24, 1)

    def score(self, x):
        return self.top(torch.relu(self.deep(x * self.cross(x) + x)))


KINDS = {x.__name__: x for x in (Plain, Residual, Branches, Normalized, FeedForward, Cross)}


def requests(count=24, seed=0):
    random = np.random.default_rng(seed)
    counts = random.integers(4, 16, count)
    rows = int(counts.sum())
    return RequestBatch(
        user={"profile": random.standard_normal((count, 40)).astype(np.float32)},
        items={
            "item": random.integers(0, 30, rows),
            "price": random.standard_normal((rows, 3)).astype(np.float32),
        },
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        labels=(random.random(rows) < 0.3).astype(np.float32),
    )


def ranker(kind="Plain", *, seed=0):
    torch.manual_seed(seed)
    module = KINDS[kind]().eval()
    calibration = dataclasses.replace(requests(120, seed=1), labels=None)
    return Ranker(kind.lower(), module, SIGNATURE, requests(), calibration=calibration)


def plain():
    return ranker()
