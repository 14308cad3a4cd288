"""A synthetic click log in Criteo's columns, whose true click probability is known.

A request is one user, described by 13 counts and the categories C1-C16, and its candidates, each
described by C17-C26. IDs follow a Zipf law over cardinalities like those of Criteo's Kaggle data.
The log-odds of a click are a sum of five parts of stated strength:

- an effect of the user's counts (smooth, not linear),
- an effect of each user ID, and one of each item ID,
- the dot product of the user's and the item's latent factors, where the user's factors come from
  the counts and the user IDs: this part alone tells users apart in *which* items they like,
- a constant that sets the share of clicks.

As the probability is known, so is the best AUC that any ranker can reach on a part of the log: that
of the probability itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.data.log import (
    CATEGORIES,
    COUNTS,
    RankingLog,
    click_signature,
    draw_blocks,
    join_logs,
)
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankers.requests import Array, Columns

# A spread like Criteo's. The user's side is the smaller: a log holds a hundred times fewer users
# than candidates, too few to learn thousands of user IDs from.
_USER_CARDINALITIES = (24, 500, 40, 1000, 100, 30, 2000, 200, 20, 300, 60, 1500, 80, 27, 150, 400)
_ITEM_CARDINALITIES = (20, 5000, 2000, 50, 20000, 200, 30, 10000, 100, 1000)
CARDINALITIES = dict(zip(CATEGORIES, (*_USER_CARDINALITIES, *_ITEM_CARDINALITIES), strict=True))
USER_CATEGORIES = CATEGORIES[:16]
ITEM_CATEGORIES = CATEGORIES[16:]
SIGNATURE = click_signature(CARDINALITIES, user=("dense", *USER_CATEGORIES))

_BLOCK_REQUESTS = 2_000  # drawn at once: about 250,000 rows, some 100 MB


@dataclass(frozen=True, slots=True)
class ClickModel:
    """How clicks come about. The strengths are standard deviations of the log-odds.

    Attributes:
        seed: Of everything that is drawn.
        click_share: The share of candidates that are clicked.
        counts: Strength of the effect of the user's counts.
        user: Strength of the effects of user IDs.
        item: Strength of the effects of item IDs.
        affinity: Strength of the product of user and item factors.
        factors: How many latent factors there are.
        zipf_exponent: How much more frequent the frequent IDs are.
        rarity: How much weaker columns of many IDs act: the effect of a column falls with
            ``cardinality ** -rarity``.
    """

    seed: int = 0
    click_share: float = 0.2
    counts: float = 0.5
    user: float = 0.3
    item: float = 1.1
    affinity: float = 0.7
    factors: int = 2
    zipf_exponent: float = 1.25
    rarity: float = 0.6

    def draw(self, rows: int) -> RankingLog:
        """Return a log of whole requests with at least ``rows`` candidates in all."""
        return join_logs(list(self.blocks(rows)))

    def blocks(self, rows: int) -> Iterator[RankingLog]:
        """Draw what `draw` returns in pieces, in memory that does not grow with ``rows``.

        A longer log of the same seed begins with the shorter one.
        """
        yield from draw_blocks(_Truth(self).draw, rows, self.seed, _BLOCK_REQUESTS)


class _Truth:
    """The tables behind a log: what every ID does to the log-odds."""

    def __init__(self, model: ClickModel) -> None:
        self.model = model
        generator = np.random.default_rng((model.seed, 0))
        self.columns = {
            name: _Column.draw(generator, cardinality, model)
            for name, cardinality in CARDINALITIES.items()
        }
        width = len(COUNTS)
        self.log_mean = generator.uniform(0.5, 3.0, width)
        self.count_effect = generator.normal(size=(width, 8))  # counts -> 8 hidden -> effect
        self.count_output = generator.normal(size=8)
        self.count_factors = generator.normal(size=(width, model.factors))
        # Strengths are set on a sample: standardise each part, then find the constant.
        self.scales = np.ones(4)
        self.centres = np.zeros(4)
        self.constant = 0.0
        sample = np.random.default_rng((model.seed, 2))
        requests = 1000
        dense, users = self._users(sample, requests)
        items = self._ids(sample, ITEM_CATEGORIES, requests * 20)
        parts = self._parts(dense, users, items, np.repeat(np.arange(requests), 20))
        strengths = np.array([model.counts, model.user, model.item, model.affinity])
        self.centres = parts.mean(axis=1)
        self.scales = strengths / parts.std(axis=1)
        log_odds = self._log_odds(parts)
        self.constant = constant_for(log_odds, model.click_share)

    def draw(self, generator: np.random.Generator, counts: Array) -> RankingLog:
        """Draw one request for each of ``counts``, with that many candidates."""
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        dense, users = self._users(generator, len(counts))
        items = self._ids(generator, ITEM_CATEGORIES, int(offsets[-1]))
        request = np.repeat(np.arange(len(counts)), counts)  # of each row, [ΣN]
        log_odds = self._log_odds(self._parts(dense, users, items, request)) + self.constant
        probability = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
        clicks = generator.random(len(probability), dtype=np.float32) < probability
        return RankingLog(
            requests=RequestBatch(
                user={"dense": dense, **users},
                items=items,
                offsets=offsets,
                labels=clicks.astype(np.float32),
            ),
            signature=SIGNATURE,
            truth=probability,
        )

    def _users(self, generator: np.random.Generator, requests: int) -> tuple[Array, Columns]:
        """Draw users: dense float32 ``[R, 13]``, the log1p of whole counts, and their IDs."""
        logs = generator.normal(self.log_mean, 1.0, (requests, len(COUNTS)))
        counts = np.floor(np.exp(logs))
        return np.log1p(counts).astype(np.float32), self._ids(generator, USER_CATEGORIES, requests)

    def _ids(self, generator: np.random.Generator, names: tuple[str, ...], rows: int) -> Columns:
        return {name: self.columns[name].sample(generator, rows) for name in names}

    def _parts(self, dense: Array, users: Columns, items: Columns, request: Array) -> Array:
        """Return counts', users', items' and affinity's part of the log-odds, ``[4, ΣN]``."""
        standard = (dense - self.log_mean) / 1.2
        counts = np.tanh(standard @ self.count_effect / 3) @ self.count_output
        user_effects, user_factors = self._effects(users)
        item_effects, item_factors = self._effects(items)
        user_factors = user_factors + np.tanh(standard @ self.count_factors / 3)
        affinity = np.einsum("nk,nk->n", user_factors[request], item_factors)
        return np.stack([counts[request], user_effects[request], item_effects, affinity])

    def _effects(self, ids: Columns) -> tuple[Array, Array]:
        """Sum the effects ``[rows]`` and the factors ``[rows, K]`` of the columns' IDs."""
        rows = len(next(iter(ids.values())))
        total = np.zeros((rows, 1 + self.model.factors), dtype=np.float32)
        for name, column in ids.items():
            total += self.columns[name].table[column]
        return total[:, 0], total[:, 1:]

    def _log_odds(self, parts: Array) -> Array:
        log_odds: Array = self.scales @ (parts - self.centres[:, None])
        return log_odds


@dataclass(frozen=True, slots=True)
class _Column:
    """One category: how often its IDs come, and what they do.

    Attributes:
        cumulative: float64 ``[cardinality]``, over IDs from the most to the least frequent.
        ids: The IDs in that order: frequent ones lie scattered, as hashed IDs do.
        table: float32 ``[cardinality, 1 + K]``: the effect and the factors of each ID.
    """

    cumulative: Array
    ids: Array
    table: Array

    @classmethod
    def draw(cls, generator: np.random.Generator, cardinality: int, model: ClickModel) -> _Column:
        weights = np.arange(1, cardinality + 1, dtype=np.float64) ** -model.zipf_exponent
        table = generator.normal(size=(cardinality, 1 + model.factors)) * cardinality**-model.rarity
        return cls(
            cumulative=np.cumsum(weights) / weights.sum(),
            ids=generator.permutation(cardinality).astype(np.int64),
            table=table.astype(np.float32),
        )

    def sample(self, generator: np.random.Generator, rows: int) -> Array:
        """Draw IDs, int64 ``[rows]``."""
        ranks = np.searchsorted(self.cumulative, generator.random(rows), side="right")
        drawn: Array = self.ids[np.minimum(ranks, len(self.ids) - 1)]
        return drawn


def constant_for(log_odds: Array, share: float) -> float:
    """Return what to add to log-odds so that the mean probability is ``share``."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(np.mean(1 / (1 + np.exp(-log_odds - middle)))) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2
