"""A synthetic log of people with histories, whose true click probability is known.

A user is the items they clicked before, up to 50, the newest last, each with its category; a
segment, and an hour. A candidate is an item with its category, up to four tags and a price. People
have a few categories they like, and their histories come from those. The log-odds of a click are a
sum of parts of stated strength:

- how much of the history is of the *candidate's* category, recent events more: the part that only a
  ranker that looks at the history with the candidate in mind can find,
- an effect of each item and of each tag,
- an effect of the price against what the segment likes to pay,
- a constant that sets the share of clicks.

All of them follow from the features, so the best AUC on a part of the log is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.data.log import RankingLog, draw_blocks, join_logs
from rankers.data.synthetic import constant_for
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankers.requests import Array

HISTORY = 50
TAGS = 4
ITEMS, CATEGORIES, TAG_NAMES, SEGMENTS = 1000, 30, 40, 10  # IDs from 1, 0 is padding

SIGNATURE = Signature(
    (
        Feature("history", "int64", (HISTORY,), "user", ITEMS + 1, padding=0),
        Feature("history_category", "int64", (HISTORY,), "user", CATEGORIES + 1, padding=0),
        Feature("segment", "int64", (), "user", SEGMENTS),
        Feature("item", "int64", (), "item", ITEMS + 1),
        Feature("category", "int64", (), "item", CATEGORIES + 1),
        Feature("tags", "int64", (TAGS,), "item", TAG_NAMES + 1, padding=0),
        Feature("price", "float32", (1,), "item"),
    )
)

_BLOCK_REQUESTS = 500


@dataclass(frozen=True, slots=True)
class HistoryModel:
    """How clicks come about. The strengths are standard deviations of the log-odds.

    Attributes:
        seed: Of everything that is drawn.
        click_share: The share of candidates that are clicked.
        match: Strength of the history's events of the candidate's category.
        item: Strength of the items' own effects.
        tags: Strength of the tags' effects.
        price: Strength of the price against the segment's.
        recency: How much less an event counts than the next newer one.
        cold_share: The share of users without a history.
    """

    seed: int = 0
    click_share: float = 0.2
    match: float = 1.1
    item: float = 0.7
    tags: float = 0.4
    price: float = 0.4
    recency: float = 0.95
    cold_share: float = 0.05

    def draw(self, rows: int) -> RankingLog:
        """Return a log of whole requests with at least ``rows`` candidates in all."""
        return join_logs(list(self.blocks(rows)))

    def blocks(self, rows: int) -> Iterator[RankingLog]:
        """Draw what `draw` returns in pieces, in memory that does not grow with ``rows``.

        A longer log of the same seed begins with the shorter one.
        """
        yield from draw_blocks(_Truth(self).draw, rows, self.seed, _BLOCK_REQUESTS)


class _Truth:
    """What items are, and what they do to the log-odds."""

    def __init__(self, model: HistoryModel) -> None:
        self.model = model
        random = np.random.default_rng((model.seed, 0))
        weights = 1 / np.arange(1, ITEMS + 1) ** 1.1
        self.popularity = np.append(0.0, random.permutation(weights / weights.sum()))
        self.category = np.append(0, random.integers(1, CATEGORIES + 1, ITEMS))
        sizes = random.integers(0, TAGS + 1, ITEMS + 1)
        tags = random.integers(1, TAG_NAMES + 1, (ITEMS + 1, TAGS))
        self.tags = np.where(np.arange(TAGS) < sizes[:, np.newaxis], tags, 0)
        self.price = random.normal(size=ITEMS + 1).astype(np.float32)
        self.item_effect = random.normal(size=ITEMS + 1)
        self.tag_effect = np.append(0.0, random.normal(size=TAG_NAMES))
        self.liked_price = random.normal(size=SEGMENTS)
        # Items by category, for histories: where each category's popularity begins and ends.
        self.by_category = np.argsort(self.category[1:], kind="stable") + 1
        self.centres, self.scales, self.constant = np.zeros(4), np.ones(4), 0.0
        sample = np.random.default_rng((model.seed, 2))
        counts = np.full(400, 30)
        parts = self._parts(*self._features(sample, counts), counts)
        self.centres = parts.mean(axis=1)
        strengths = np.array([model.match, model.item, model.tags, model.price])
        self.scales = strengths / parts.std(axis=1)
        self.constant = constant_for(self._log_odds(parts), model.click_share)

    def draw(self, random: np.random.Generator, counts: Array) -> RankingLog:
        """Draw one request for each of ``counts``, with that many candidates."""
        history, segment, item = self._features(random, counts)
        log_odds = self._log_odds(self._parts(history, segment, item, counts)) + self.constant
        probability = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
        clicks = random.random(len(item), dtype=np.float32) < probability
        return RankingLog(
            requests=RequestBatch(
                user={
                    "history": history,
                    "history_category": self.category[history],
                    "segment": segment,
                },
                items={
                    "item": item,
                    "category": self.category[item],
                    "tags": self.tags[item],
                    "price": self.price[item][:, np.newaxis],
                },
                offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                labels=clicks.astype(np.float32),
            ),
            signature=SIGNATURE,
            truth=probability,
        )

    def _features(self, random: np.random.Generator, counts: Array) -> tuple[Array, Array, Array]:
        """Draw histories ``[R, HISTORY]``, segments ``[R]`` and candidates ``[ΣN]``."""
        users = len(counts)
        liked = random.integers(1, CATEGORIES + 1, (users, 3))  # of each user, one may come twice
        lengths = np.minimum(np.rint(np.exp(random.normal(np.log(15), 0.8, users))), HISTORY)
        lengths[random.random(users) < self.model.cold_share] = 0
        which = liked[np.arange(users)[:, np.newaxis], random.integers(0, 3, (users, HISTORY))]
        history = self._item_of(random, which)
        history[np.arange(HISTORY) >= lengths[:, np.newaxis]] = 0
        segment = random.integers(0, SEGMENTS, users)
        return history.astype(np.int64), segment, self._candidates(random, liked, counts)

    def _candidates(self, random: np.random.Generator, liked: Array, counts: Array) -> Array:
        """Draw different items for each user, ``[ΣN]``.

        A third is drawn from the categories that the user likes: a recommender chose them.
        """
        fits = (self.category[1:] == liked[:, :, np.newaxis]).any(axis=1)  # [R, ITEMS]
        weights = self.popularity[1:] * fits
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        weights = 2 / 3 * self.popularity[1:] + weights / 3
        # The smallest of exponential times with these rates are a weighted draw without repetition
        # (Efraimidis and Spirakis, Information Processing Letters 2006).
        order = np.argsort(random.standard_exponential(weights.shape) / weights, axis=1) + 1
        drawn = [order[place, :count] for place, count in enumerate(counts)]
        # Those drawn first are the likely ones: their places must not tell.
        return np.concatenate([random.permutation(each) for each in drawn]).astype(np.int64)

    def _item_of(self, random: np.random.Generator, categories: Array) -> Array:
        """Draw an item of each of the categories; any item where a category has none."""
        sorted_categories = self.category[self.by_category]
        first = np.searchsorted(sorted_categories, categories, side="left")
        last = np.searchsorted(sorted_categories, categories, side="right")
        # The square draws some items of a category far more often than others.
        place = first + (random.random(categories.shape) ** 2 * (last - first)).astype(np.int64)
        drawn: Array = self.by_category[np.minimum(place, ITEMS - 1)]
        return drawn

    def _parts(self, history: Array, segment: Array, item: Array, counts: Array) -> Array:
        """Return the match's, items', tags' and price's part of the log-odds, ``[4, ΣN]``."""
        user = np.repeat(np.arange(len(counts)), counts)
        size = (history > 0).sum(axis=1, keepdims=True)
        age = size - 1 - np.arange(HISTORY)  # 0 for the newest
        weight = np.where(age >= 0, self.model.recency ** np.maximum(age, 0), 0.0)
        seen = np.zeros((len(counts), CATEGORIES + 1))
        np.add.at(seen, (np.arange(len(counts))[:, np.newaxis], self.category[history]), weight)
        match = np.log1p(seen[user, self.category[item]])
        price = -np.abs(self.price[item] - self.liked_price[segment[user]])
        return np.stack(
            [match, self.item_effect[item], self.tag_effect[self.tags[item]].sum(axis=1), price]
        )

    def _log_odds(self, parts: Array) -> Array:
        log_odds: Array = self.scales @ (parts - self.centres[:, np.newaxis])
        return log_odds
