"""Ranking logs: labelled requests, and what is known about where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from rankers.requests import Array

# The columns of Criteo's files, after the label: 13 counts and 26 categories.
COUNTS = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES = tuple(f"C{number}" for number in range(1, 27))


@dataclass(frozen=True, slots=True)
class RankingLog:
    """Labelled requests in the order of time.

    Attributes:
        requests: The requests, with labels.
        signature: Their features.
        truth: The score that no ranker beats but by luck, float32 ``[ΣN]``, where the log was
            generated and it is known: the true probability of a click, or the true relevance;
            else None.
        files: What made IDs out of raw values, by file name, such as ``tokenizer.json``: kept with
            the ranker, so that serving does the same.
    """

    requests: RequestBatch
    signature: Signature
    truth: Array | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    def select(self, indices: Array) -> RankingLog:
        """Return the log of the requests at ``indices``, in that order."""
        return RankingLog(
            requests=self.requests.select(indices),
            signature=self.signature,
            truth=None if self.truth is None else self.truth[self._rows(indices)],
            files=self.files,
        )

    def first(self, rows: int) -> RankingLog:
        """Return the first requests: as few as hold ``rows`` candidates, or all."""
        enough = int(np.searchsorted(self.requests.offsets[1:], rows)) + 1
        return self.select(np.arange(min(enough, len(self.requests))))

    def _rows(self, indices: Array) -> Array:
        offsets = self.requests.offsets
        pieces = [np.arange(offsets[each], offsets[each + 1]) for each in indices]
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)


def join_logs(logs: Sequence[RankingLog]) -> RankingLog:
    """Put logs of the same features, with labels, one after the other."""
    batches = [each.requests for each in logs]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([x.candidates for x in batches]))])
    truths = [each.truth for each in logs if each.truth is not None]
    return RankingLog(
        requests=RequestBatch(
            user={k: np.concatenate([x.user[k] for x in batches]) for k in batches[0].user},
            items={k: np.concatenate([x.items[k] for x in batches]) for k in batches[0].items},
            offsets=offsets.astype(np.int64),
            labels=np.concatenate([x.labels for x in batches if x.labels is not None]),
        ),
        signature=logs[0].signature,
        truth=np.concatenate(truths) if len(truths) == len(logs) else None,
        files=logs[0].files,
    )


def click_signature(cardinalities: Mapping[str, int], *, user: Collection[str] = ()) -> Signature:
    """Return the signature of a log in Criteo's columns.

    Args:
        cardinalities: How many IDs each category has, by its name, in order.
        user: Which features are the user's: names of categories, or ``dense``. The rest is the
            item's.
    """

    def side(name: str) -> str:
        return "user" if name in user else "item"

    features = [Feature("dense", "float32", (len(COUNTS),), side("dense"))]  # type: ignore[arg-type]
    features += [
        Feature(name, "int64", (), side(name), cardinality)  # type: ignore[arg-type]
        for name, cardinality in cardinalities.items()
    ]
    return Signature(tuple(features), "probability")


def candidate_counts(generator: np.random.Generator, requests: int) -> Array:
    """Draw how many candidates requests have: log-normal, median 100, cut to 20…700.

    The range is that of MLPerf's DLRM server scenario (100-700 pairs a request), stretched down to
    the short lists that a narrow search or a small shop leaves.

    Returns:
        int64 ``[requests]``.
    """
    drawn = np.exp(generator.normal(np.log(100.0), 0.7, requests))
    counts: Array = np.clip(np.rint(drawn), 20, 700).astype(np.int64)
    return counts


def draw_blocks(
    draw: Callable[[np.random.Generator, Array], RankingLog],
    rows: int,
    seed: int,
    block_requests: int,
) -> Iterator[RankingLog]:
    """Draw a log in pieces, each from a generator of its own: a longer log begins with a shorter.

    Args:
        draw: Makes a request for each of some numbers of candidates.
        rows: How many candidates at least in all.
        seed: Of all pieces.
        block_requests: How many requests a piece has.
    """
    number = 0
    while rows > 0:
        generator = np.random.default_rng((seed, 1, number))
        block = draw(generator, candidate_counts(generator, block_requests))
        if rows < block.requests.rows:
            block = block.first(rows)
        yield block
        rows -= block.requests.rows
        number += 1


def run_offsets(rows: int, seed: int) -> Array:
    """Cut the rows of a file that does not tell its requests apart into runs.

    Their sizes are drawn as `candidate_counts` does, none above a tenth of all rows, so that a
    small file has several.

    Returns:
        Offsets, int64 ``[R + 1]``.
    """
    generator = np.random.default_rng(seed)
    most = max(1, rows // 10)
    sizes: list[Array] = []
    total = 0
    while total < rows:
        drawn = np.minimum(candidate_counts(generator, 1000), most)
        sizes.append(drawn)
        total += int(drawn.sum())
    ends = np.cumsum(np.concatenate(sizes))
    return np.concatenate([[0], ends[ends < rows], [rows]]).astype(np.int64)


def split_log(
    log: RankingLog, *, share: float, by: str, seed: int
) -> tuple[RankingLog, RankingLog]:
    """Split a log into requests to train on and requests to evaluate on.

    Args:
        log: Requests in the order of time.
        share: The share of requests held out, between 0 and 1.
        by: ``time`` holds out the last requests, ``request`` a seeded draw of them.
        seed: Of that draw.

    Raises:
        UserError: There are too few requests, or ``by`` is unknown.
    """
    total = len(log.requests)
    if total < 2:
        raise UserError(f"the log has {total} request(s); at least 2 are needed to hold one out")
    if not 0 < share < 1:
        raise UserError(f"the held-out share is {share}; it lies between 0 and 1")
    held_out = min(max(1, round(total * share)), total - 1)
    if by == "time":
        order = np.arange(total)
    elif by == "request":
        order = np.random.default_rng(seed).permutation(total)
    else:
        raise UserError(f"cannot split by {by!r}; split by 'time' or 'request'")
    first, last = np.sort(order[: total - held_out]), np.sort(order[total - held_out :])
    return log.select(first), log.select(last)
