"""A ranker with features that it needs, one that it hardly needs, and one read for nothing."""

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
        Feature("colour", "int64", (), "user", 500),
        Feature("mood", "float32", (2,), "user"),
        Feature("recent", "int64", (4,), "user", 60, padding=0),
        Feature("item", "int64", (), "item", 60),
        Feature("shade", "int64", (), "item", 300),
        Feature("price", "float32", (), "item"),
    )
)


class Fields(nn.Module):
    """All colours are one vector, shades differ little, and it counts its rows."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor  # of the logits that clicks are drawn from
        torch.manual_seed(0)
        self.colour = nn.Embedding(500, 8)
        self.item = nn.Embedding(60, 8, padding_idx=0)
        self.shade = nn.Embedding(300, 8)
        self.mix = nn.Linear(8, 8)
        with torch.no_grad():
            self.colour.weight[:] = self.colour.weight[0].clone()
            self.shade.weight.mul_(0.02)

    def forward(self, *, colour, mood, recent, item, shade, price):
        rows = colour.shape[0]
        past = 0.3 * self.item(recent).sum(1) / recent.shape[1]
        user = torch.tanh(self.mix(self.colour(colour) + past)) + mood.repeat(1, 4)
        logits = (user * (self.item(item) + self.shade(shade))).sum(1)
        logits = logits + 2.5 * price + price.new_zeros(rows)
        return torch.sigmoid(self.factor * (logits - 0.5))


def requests(count, seed, *, labels=True):
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(3, 25, count))]).astype(np.int64)
    columns = {}
    for each in SIGNATURE.features:
        shape = (count if each.side == "user" else int(offsets[-1]), *each.shape)
        if each.dtype == "int64":
            columns[each.name] = random.integers(0, each.cardinality, shape)
        else:
            columns[each.name] = (0.4 * random.standard_normal(shape)).astype(np.float32)
    batch = RequestBatch(
        {each.name: columns[each.name] for each in SIGNATURE.user},
        {each.name: columns[each.name] for each in SIGNATURE.item},
        offsets,
    )
    if not labels:
        return batch
    with torch.inference_mode():
        flat = {name: torch.from_numpy(x) for name, x in batch.flat().items()}
        clicks = Fields()(**flat).numpy() > random.random(batch.rows)
    return RequestBatch(batch.user, batch.items, offsets, clicks.astype(np.float32))


def fields():
    return Ranker("fields", Fields(), SIGNATURE, requests(80, 1), calibration=requests(80, 2))


def overconfident():
    learnt = requests(120, 2)
    return Ranker("fields", Fields(2.0), SIGNATURE, requests(80, 1), calibration=learnt)


def unlabelled():
    learnt = requests(40, 2, labels=False)
    return Ranker("fields", Fields(), SIGNATURE, requests(80, 1), calibration=learnt)


TWINS = Signature(
    (
        Feature("mood", "float32", (2,), "user"),
        Feature("price", "float32", (), "item"),
        Feature("cost", "float32", (), "item"),
    )
)


class Twins(nn.Module):
    """Reads two numbers that say nearly the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.out = nn.Linear(4, 16), nn.Linear(16, 1)

    def forward(self, *, mood, price, cost):
        read = torch.cat([mood, price[:, None], cost[:, None]], 1)
        return torch.sigmoid(3 * self.out(torch.tanh(3 * self.hidden(read)))[:, 0])


def twin_requests(count, seed):
    random = np.random.default_rng(seed)
    offsets = (20 * np.arange(count + 1)).astype(np.int64)
    price = random.standard_normal(20 * count).astype(np.float32)
    cost = price + 0.1 * random.standard_normal(20 * count).astype(np.float32)
    mood = random.standard_normal((count, 2)).astype(np.float32)
    clicks = (random.random(20 * count) < 0.3).astype(np.float32)
    return RequestBatch({"mood": mood}, {"price": price, "cost": cost}, offsets, clicks)


def twins():
    return Ranker("twins", Twins(), TWINS, twin_requests(40, 1), calibration=twin_requests(80, 2))
