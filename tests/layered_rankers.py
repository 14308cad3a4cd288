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


class Attention(Layered):
    """Six places of eight values attend to one another, by 4 heads of 4."""

    heads = 4

    def build(self):
        self.q, self.k, self.v = (nn.Linear(8, 16) for _ in range(3))
        self.out, self.inner, self.top = nn.Linear(16, 8), nn.Linear(8, 24), nn.Linear(24, 1)

    def score(self, x):
        places = x[:, :48].unflatten(1, (6, 8))
        seen = places[..., 0] > -1
        x = (places + self.out(self.attend(places, seen))).mean(1)
        return self.top(torch.relu(self.inner(x)))

    def attend(self, places, seen):
        q, k, v = (
            x(places).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for x in (self.q, self.k, self.v)
        )
        bias = torch.where(seen, 0.0, -1e9)[:, None, None, :]
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return (read * seen.any(1)[:, None, None, None]).transpose(1, 2).flatten(2)


class Products(Attention):
    """The same by products, with a softmax of its own and a slope for each head."""

    def build(self):
        super().build()
        self.slope = nn.Parameter(torch.randn(self.heads, 1, 1))

    def attend(self, places, seen):
        rows = places.shape[0]
        q, k, v = (
            x(places).view(rows, 6, self.heads, 4).permute(0, 2, 1, 3)
            for x in (self.q, self.k, self.v)
        )
        logits = torch.matmul(q, k.transpose(-1, -2)) / 2 * self.slope
        logits = logits.masked_fill(~seen[:, None, None, :], -1e9)
        read = torch.softmax(logits, dim=-1) @ v  # [rows, heads, 6, 4]
        return read.permute(0, 2, 1, 3).contiguous().view(rows, 6, 16)


class Contractions(Attention):
    """The same by einsum, which leaves heads where they are."""

    def attend(self, places, seen):
        q, k, v = (x(places).view(-1, 6, self.heads, 4) for x in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bqhd,bkhd->bhqk", q, k) / 2, dim=-1)
        return torch.einsum("bhqk,bkhd->bqhd", weights, v).reshape(-1, 6, 16)


class Shared(Attention):
    """Two heads of keys and values, each for two of queries."""

    def build(self):
        super().build()
        self.k, self.v = (nn.Linear(8, 8) for _ in range(2))

    def attend(self, places, seen):
        q = self.q(places).unflatten(2, (self.heads, 4)).transpose(1, 2)
        k, v = (
            x(places).unflatten(2, (2, 4)).transpose(1, 2)[:, :, None].expand(-1, 2, 2, 6, 4)
            for x in (self.k, self.v)
        )
        read = functional.scaled_dot_product_attention(
            q, k.reshape(-1, 4, 6, 4), v.reshape(-1, 4, 6, 4)
        )
        return read.transpose(1, 2).reshape(-1, 6, 16)


class Packed(Attention):
    """Torch's own, which has queries, keys and values in one weight."""

    def build(self):
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.out, self.inner, self.top = nn.Linear(8, 8), nn.Linear(8, 24), nn.Linear(24, 1)

    def attend(self, places, seen):
        return self.attention(places, places, places, need_weights=False)[0]


ATTENTION = {x.__name__: x for x in (Attention, Products, Contractions, Shared)}
KINDS = {x.__name__: x for x in (Plain, Residual, Branches, Normalized, FeedForward, Cross, Packed)}


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
    module = (KINDS | ATTENTION)[kind]().eval()
    calibration = dataclasses.replace(requests(120, seed=1), labels=None)
    return Ranker(kind.lower(), module, SIGNATURE, requests(), calibration=calibration)


def plain():
    return ranker()
