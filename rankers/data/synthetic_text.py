"""A synthetic log of searches: queries and documents of a small grammar, their relevance known.

A query asks for a thing, such as ``crimson couch without cover``; a document offers one, such as
``selling used red sofa with manual and no cover``. The log-odds of a click are a sum of parts of
stated strength:

- whether query and document mean the same thing: each thing has three names, so that the words are
  the same by chance alone,
- where the query names a colour: whether the document's is the same, by whichever of its names,
- where the query wants a part, or wants to be without one: whether the document agrees, contradicts
  (``with``, ``without`` and other words for each) or says nothing of it,
- the condition that the document states, whatever the query,
- how much people like the thing that is offered, and the one that is asked for,
- a constant that sets the share of clicks.

All of them follow from the words, so the best AUC on a part of the log is known. Texts become token
IDs by a vocabulary that is learned from a sample of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.data.log import RankingLog, draw_blocks, join_logs
from rankers.data.synthetic import constant_for
from rankers.data.vocabulary import train_wordpiece
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch
from rankers.text import TOKENIZER, TextEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankers.requests import Array

QUERY, DOCUMENT = "query", "document"
THINGS = (
    ("sofa", "couch", "settee"), ("bicycle", "bike", "cycle"), ("rucksack", "backpack", "bag"),
    ("lamp", "light", "lantern"), ("phone", "mobile", "handset"), ("jacket", "coat", "parka"),
    ("desk", "bureau", "table"), ("oven", "stove", "cooker"),
)  # fmt: skip
COLOURS = (("red", "crimson"), ("blue", "navy"), ("green", "emerald"), ("black", "ebony"))
PARTS = ("cover", "handle", "manual", "battery", "strap", "stand")
WITH, WITHOUT = ("with", "including"), ("without", "no")
CONDITIONS = ("new", "mint", "used", "worn", "broken")
OPENINGS = ("", "", "selling ", "fine ")

TOKENS = 256  # more than the words of the grammar and their pieces
SIGNATURE = Signature(
    (
        Feature(QUERY, "int64", (4,), "user", TOKENS, padding=0),
        Feature(DOCUMENT, "int64", (9,), "item", TOKENS, padding=0),
    )
)

_BLOCK_REQUESTS = 100
_NOTHING = -1  # in place of a colour or a part that is not named


@dataclass(frozen=True, slots=True)
class TextModel:
    """How clicks come about. The strengths are standard deviations of the log-odds.

    Attributes:
        seed: Of everything that is drawn.
        click_share: The share of candidates that are clicked.
        thing: Strength of meaning the same thing.
        colour: Strength of the colour that was asked for.
        part: Strength of the part that was asked for, or to be without.
        condition: Strength of the document's condition.
        liking: Strength of how much a thing is liked, offered or asked for.
    """

    seed: int = 0
    click_share: float = 0.3
    thing: float = 1.6
    colour: float = 0.6
    part: float = 0.7
    condition: float = 0.7
    liking: float = 0.7

    def draw(self, rows: int) -> RankingLog:
        """Return a log of whole requests with at least ``rows`` candidates in all."""
        return join_logs(list(self.blocks(rows)))

    def blocks(self, rows: int) -> Iterator[RankingLog]:
        """Draw what `draw` returns in pieces, in memory that does not grow with ``rows``.

        A longer log of the same seed begins with the shorter one.
        """
        tokenizer = self.tokenizer()
        encoder = TextEncoder(tokenizer, SIGNATURE, too_long="refuse")
        for block in self.texts(rows):
            texts, files = block.requests, {TOKENIZER: tokenizer}
            user = {QUERY: encoder.encode(QUERY, texts.user[QUERY].tolist())}
            items = {DOCUMENT: encoder.encode(DOCUMENT, texts.items[DOCUMENT].tolist())}
            requests = RequestBatch(user, items, texts.offsets, texts.labels)
            yield RankingLog(requests, SIGNATURE, block.truth, files)

    def texts(self, rows: int) -> Iterator[RankingLog]:
        """Draw the same in pieces whose columns hold texts in place of token IDs."""
        yield from draw_blocks(_Truth(self).draw, rows, self.seed, _BLOCK_REQUESTS)

    def tokenizer(self) -> bytes:
        """Return the ``tokenizer.json`` that is learned from a sample of the texts."""
        sample = _Truth(self).draw(np.random.default_rng((self.seed, 3)), _SAMPLE).requests
        texts = [*sample.user[QUERY].tolist(), *sample.items[DOCUMENT].tolist()]
        return train_wordpiece(lambda: texts, TOKENS)


_SAMPLE = np.full(500, 30)  # candidates of the requests that strengths and words are measured on


@dataclass(frozen=True, slots=True)
class _Meanings:
    """What queries ``[R]`` or documents ``[ΣN]`` say.

    Attributes:
        thing: Which of `THINGS`.
        colour: Which of `COLOURS`, or `_NOTHING`.
        parts: Which of `PARTS` are had (1), done without (-1) or not named (0), ``[…, PARTS]``.
        condition: Which of `CONDITIONS`; 0 in a query.
    """

    thing: Array
    colour: Array
    parts: Array
    condition: Array


class _Truth:
    """What the words do to the log-odds."""

    def __init__(self, model: TextModel) -> None:
        self.condition_effect = np.linspace(1.0, -1.0, len(CONDITIONS))
        self.liking = np.random.default_rng((model.seed, 0)).normal(size=len(THINGS))
        self.centres, self.scales, self.constant = np.zeros(5), np.ones(5), 0.0
        parts = self._parts(*_drawn(np.random.default_rng((model.seed, 2)), _SAMPLE), _SAMPLE)
        self.centres = parts.mean(axis=1)
        strengths = np.array([model.thing, model.colour, model.part, model.condition, model.liking])
        self.scales = strengths / parts.std(axis=1)
        self.constant = constant_for(self._log_odds(parts), model.click_share)

    def draw(self, random: np.random.Generator, counts: Array) -> RankingLog:
        """Draw one request for each of ``counts``, with a fifth of that many candidates.

        A search hands over fewer passages than a shop does items, and each costs more to score.
        """
        counts = (counts + 4) // 5
        queries, documents = _drawn(random, counts)
        log_odds = self._log_odds(self._parts(queries, documents, counts)) + self.constant
        probability = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
        clicks = random.random(len(probability), dtype=np.float32) < probability
        return RankingLog(
            requests=RequestBatch(
                user={QUERY: _query_words(random, queries)},
                items={DOCUMENT: _document_words(random, documents)},
                offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                labels=clicks.astype(np.float32),
            ),
            signature=SIGNATURE,
            truth=probability,
        )

    def _parts(self, queries: _Meanings, documents: _Meanings, counts: Array) -> Array:
        """Return thing's, colour's, part's, condition's and liking's part, ``[5, ΣN]``."""
        query = np.repeat(np.arange(len(counts)), counts)
        same_thing = queries.thing[query] == documents.thing
        same_colour = queries.colour[query] == documents.colour
        named = queries.colour[query] != _NOTHING
        agreement = (queries.parts[query] * documents.parts).sum(axis=1)
        return np.stack(
            [
                same_thing.astype(float),
                np.where(named, np.where(same_colour, 1.0, -1.0), 0.0),
                agreement.astype(float),
                self.condition_effect[documents.condition],
                self.liking[queries.thing[query]] + self.liking[documents.thing],
            ]
        )

    def _log_odds(self, parts: Array) -> Array:
        log_odds: Array = self.scales @ (parts - self.centres[:, np.newaxis])
        return log_odds


def _drawn(random: np.random.Generator, counts: Array) -> tuple[_Meanings, _Meanings]:
    """Draw queries ``[R]``, and for each its number of documents, ``[ΣN]`` in all.

    Half of the documents are of the thing that was asked for: a search found them.
    """
    users, rows = len(counts), int(counts.sum())
    query = np.repeat(np.arange(users), counts)
    thing = random.integers(len(THINGS), size=users)
    colour = random.integers(len(COLOURS), size=users)
    colour[random.random(users) < 0.4] = _NOTHING
    wanted = random.integers(len(PARTS), size=users)
    parts = np.zeros((users, len(PARTS)), dtype=np.int64)
    parts[np.arange(users), wanted] = random.choice([-1, 0, 1], users, p=[0.4, 0.2, 0.4])
    queries = _Meanings(thing, colour, parts, np.zeros(users, dtype=np.int64))

    found = random.random(rows) < 0.5
    things = np.where(found, thing[query], random.integers(len(THINGS), size=rows))
    # The first part is often the one asked for, the second is another.
    first = np.where(
        random.random(rows) < 0.5, wanted[query], random.integers(len(PARTS), size=rows)
    )
    second = (first + random.integers(1, len(PARTS), size=rows)) % len(PARTS)
    offered = np.zeros((rows, len(PARTS)), dtype=np.int64)
    offered[np.arange(rows), second] = random.choice([-1, 0, 1], rows, p=[0.1, 0.8, 0.1])
    offered[np.arange(rows), first] = random.choice([-1, 1], rows)
    documents = _Meanings(
        things,
        random.integers(len(COLOURS), size=rows),
        offered,
        random.integers(len(CONDITIONS), size=rows),
    )
    return queries, documents


def _query_words(random: np.random.Generator, said: _Meanings) -> Array:
    """Put queries into words, ``[R]`` of str: [colour] thing [with or without a part]."""
    names, colours, ways = _choices(random, len(said.thing))
    texts = []
    for row, thing in enumerate(said.thing):
        words = [] if said.colour[row] == _NOTHING else [COLOURS[said.colour[row]][colours[row]]]
        words.append(THINGS[thing][names[row]])
        for part in np.flatnonzero(said.parts[row]):
            words += [(WITH if said.parts[row, part] > 0 else WITHOUT)[ways[row]], PARTS[part]]
        texts.append(" ".join(words))
    return np.array(texts, dtype=object)


def _document_words(random: np.random.Generator, said: _Meanings) -> Array:
    """Put documents into words, ``[ΣN]`` of str."""
    names, colours, ways = _choices(random, len(said.thing))
    openings = random.integers(len(OPENINGS), size=len(said.thing))
    texts = []
    for row, thing in enumerate(said.thing):
        parts = [
            f"{(WITH if said.parts[row, part] > 0 else WITHOUT)[ways[row]]} {PARTS[part]}"
            for part in np.flatnonzero(said.parts[row])
        ]
        texts.append(
            f"{OPENINGS[openings[row]]}{CONDITIONS[said.condition[row]]} "
            f"{COLOURS[said.colour[row]][colours[row]]} {THINGS[thing][names[row]]} "
            f"{' and '.join(parts)}"
        )
    return np.array(texts, dtype=object)


def _choices(random: np.random.Generator, rows: int) -> list[Array]:
    """Draw which name of a thing, of a colour and of with and without each row uses."""
    return [random.integers(names, size=rows) for names in (len(THINGS[0]), 2, 2)]
