"""A small world whose clicks are known, and a ranker trained on it in seconds.

Users of unequal activity, items of unequal popularity, each with a taste or a character of four
factors; a brand, a price and a rating; a history of what the user liked. The log-odds of a click
are a sum of what each contributes, so a trained ranker needs every one of its inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rankers.features import Feature, Signature
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from rankers.requests import Array

USERS, ITEMS, BRANDS, HISTORY, FACTORS = 400, 600, 40, 12, 4
SIGNATURE = Signature(
    (
        Feature("user", "int64", side="user", cardinality=USERS),
        Feature("history", "int64", (HISTORY,), side="user", cardinality=ITEMS, padding=0),
        Feature("item", "int64", cardinality=ITEMS),
        Feature("brand", "int64", cardinality=BRANDS),
        Feature("price", "float32"),
        Feature("rating", "float32"),
    )
)


class World:
    """What is true of users and items; always the same."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.taste = random.normal(0, 1, (USERS, FACTORS))
        self.character = random.normal(0, 0.5, (ITEMS, FACTORS))
        self.appeal = random.normal(0, 0.8, ITEMS)
        self.brand_appeal = random.normal(0, 0.6, BRANDS)
        self.brand_of = random.integers(0, BRANDS, ITEMS)
        # Zipf's law, in an order that has nothing to do with the numbers.
        self.popularity = random.permutation(1 / np.arange(1, ITEMS) ** 0.9)
        self.activity = random.permutation(1 / np.arange(1, USERS + 1) ** 0.7)

    def draw(self, requests: int, seed: int) -> RequestBatch:
        """Return labelled requests of 5 to 45 candidates."""
        random = np.random.default_rng([1, seed])
        counts = random.integers(5, 46, requests)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        user = random.choice(USERS, requests, p=self.activity / self.activity.sum())
        item = self._items(random, int(offsets[-1]))
        price = random.normal(0, 1, len(item)).astype(np.float32)
        rating = random.normal(0, 1, len(item)).astype(np.float32)
        history = self._histories(random, user)
        of = np.repeat(np.arange(requests), counts)
        # An item is liked that is like those of the history; an empty one says nothing.
        liked = (self.character[history] * (history > 0)[..., None]).sum(1) / HISTORY
        log_odds = (
            -1.5
            + self.appeal[item]
            + self.brand_appeal[self.brand_of[item]]
            + ((self.taste[user] + 3 * liked)[of] * self.character[item]).sum(1)
            - 0.5 * price
            + 0.4 * rating
        )
        clicked = random.random(len(item)) < 1 / (1 + np.exp(-log_odds))
        return RequestBatch(
            user={"user": user, "history": history},
            items={
                "item": item,
                "brand": self.brand_of[item],
                "price": price,
                "rating": rating,
            },
            offsets=offsets,
            labels=clicked.astype(np.float32),
        )

    def _items(self, random: np.random.Generator, count: int) -> Array:
        chances = self.popularity / self.popularity.sum()
        return 1 + random.choice(ITEMS - 1, count, p=chances)  # ID 0 pads histories

    def _histories(self, random: np.random.Generator, user: Array) -> Array:
        """Return for each user items near their taste, the active ones' histories being longer."""
        offered = self._items(random, len(user) * 3 * HISTORY).reshape(len(user), -1)
        fit = (self.taste[user][:, None] * self.character[offered]).sum(2)
        best = np.take_along_axis(offered, np.argsort(-fit, axis=1)[:, :HISTORY], axis=1)
        length = random.integers(0, HISTORY + 1, len(user))
        return np.where(np.arange(HISTORY) < length[:, None], best, 0)


class SmallRanker(nn.Module):
    """Tables of width 8, the products of user, history and item, and an MLP of 32 and 16 units."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, width), nn.Embedding(ITEMS, width)
        self.brand = nn.Embedding(BRANDS, width)
        for table in (self.user, self.item, self.brand):
            nn.init.normal_(table.weight, 0, 0.1)
        self.first, self.second = nn.Linear(5 * width + 2, 32), nn.Linear(32, 16)
        self.last = nn.Linear(16, 1)

    def forward(self, **columns: Tensor) -> Tensor:
        """Return the probability of a click, ``[rows]``."""
        u, i = self.user(columns["user"]), self.item(columns["item"])
        history = columns["history"]
        liked = (self.item(history) * (history > 0).unsqueeze(-1)).mean(1)
        dense = torch.stack([columns["price"], columns["rating"]], dim=1)
        x = torch.cat([u * i, liked * i, u, i, self.brand(columns["brand"]), dense], dim=1)
        hidden = torch.relu(self.second(torch.relu(self.first(x))))
        probability: Tensor = torch.sigmoid(self.last(hidden).squeeze(1))
        return probability


def train(world: World, *, requests: int = 6000, epochs: int = 8) -> SmallRanker:
    """Train the ranker on requests of the world; always the same."""
    log = world.draw(requests, seed=1_000_000)
    assert log.labels is not None  # noqa: S101 - the world labels what it draws
    columns = {name: torch.from_numpy(x) for name, x in log.flat().items()}
    labels = torch.from_numpy(log.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = SmallRanker()
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        steps = epochs * (log.rows // 2048)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        for _ in range(epochs):
            for rows in torch.randperm(log.rows)[: log.rows // 2048 * 2048].reshape(-1, 2048):
                scores = module(**{name: x[rows] for name, x in columns.items()})
                loss = nn.functional.binary_cross_entropy(scores, labels[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return module.eval()
