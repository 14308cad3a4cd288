"""Candidate buckets: the few numbers of rows that graphs, profiles and warm-ups are made for.

A captured graph, a tuned kernel and a TensorRT profile each hold one number of rows. A request of N
candidates runs in the smallest bucket that holds it, and the rows beyond N are padding: computed
and thrown away. Which K buckets waste least follows from how many candidates requests have.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.requests import Array

Beyond = Literal["split", "refuse"]

# Of a workload that says a distribution: enough for its histogram to be that of the next draw.
_DRAWN = 20_000
# Sizes where nothing is known of the requests.
LADDER = (1, 16, 64, 128, 256, 512, 1024, 4096)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Sizes, smallest first, and what becomes of a request that no size holds.

    Attributes:
        sizes: Ascending.
        beyond: ``split``: it runs in pieces of the greatest size, and the rest in the bucket that
            holds it. ``refuse``: it is a `UserError`.
    """

    sizes: tuple[int, ...]
    beyond: Beyond = "split"

    def __post_init__(self) -> None:
        if not self.sizes or list(self.sizes) != sorted({*self.sizes}) or self.sizes[0] < 1:
            raise UserError(f"bucket sizes are {self.sizes}; expected ascending numbers from 1")
        if self.beyond not in get_args(Beyond):
            raise UserError(f"beyond is {self.beyond!r}; {nearest(self.beyond, get_args(Beyond))}")

    @property
    def greatest(self) -> int:
        """The largest size."""
        return self.sizes[-1]

    def holding(self, rows: int) -> int:
        """Return the smallest size that holds so many rows.

        Raises:
            UserError: None does, or there are no rows.
        """
        if not 1 <= rows <= self.greatest:
            raise UserError(
                f"{rows} rows were sent; buckets hold 1 to {self.greatest}: send fewer, or make "
                "buckets for so many"
            )
        return self.sizes[bisect_left(self.sizes, rows)]

    def pieces(self, rows: int) -> list[tuple[int, int, int]]:
        """Return how rows are run: for each piece its start, its end, and its bucket's size.

        Raises:
            UserError: They are more than the greatest bucket holds, and ``beyond`` is ``refuse``;
                or there are none.
        """
        if self.beyond == "refuse" or rows <= self.greatest:
            return [(0, rows, self.holding(rows))]
        starts = range(0, rows, self.greatest)
        ends = [min(start + self.greatest, rows) for start in starts]
        return [(a, b, self.holding(b - a)) for a, b in zip(starts, ends, strict=True)]

    def usual(self, histogram: Mapping[int, float] | None = None) -> int:
        """Return the size that gets most runs, or the middle one where nothing is known."""
        if histogram is None:
            return self.sizes[len(self.sizes) // 2]
        share = padding_waste(self, histogram).share
        return max(self.sizes, key=lambda size: share[size])

    def ranges(self) -> list[tuple[int, int, int]]:
        """Return each bucket's smallest, usual and largest rows: a TensorRT profile each."""
        lowest = (1, *(size + 1 for size in self.sizes[:-1]))
        return [(low, size, size) for low, size in zip(lowest, self.sizes, strict=True)]


@dataclass(frozen=True, slots=True)
class Waste:
    """What padding costs for some requests.

    Attributes:
        rows: That were asked for, weighted.
        padded: That were computed beside them.
        share: By bucket, the share of runs that it gets.
    """

    rows: float
    padded: float
    share: Mapping[int, float]

    @property
    def of_computed(self) -> float:
        """The share of all computed rows that is padding, 0 to 1."""
        return self.padded / (self.rows + self.padded)

    def to_json(self) -> dict[str, Any]:
        """Return the waste as JSON-ready data."""
        return {
            "padding_of_computed_rows": self.of_computed,
            "share_of_runs": {str(size): share for size, share in self.share.items()},
        }


def candidate_histogram(counts: Array) -> dict[int, float]:
    """Return how often each number of candidates occurs, from that of each request ``[R]``."""
    values, often = np.unique(np.asarray(counts), return_counts=True)
    return {int(value): float(times) for value, times in zip(values, often, strict=True)}


def workload_histogram(name: str) -> dict[int, float]:
    """Return how often each number of candidates occurs in a workload.

    Args:
        name: Of ``python -m bench workloads``, or a ``.toml`` file. One that says a histogram is
            taken as it is; of any other distribution, or log, requests are drawn or read.

    Raises:
        UserError: There is no such workload, or its log cannot be read.
    """
    from bench.distributions import Histogram
    from bench.workload_recipe import load_recipe

    recipe = load_recipe(name)
    if isinstance(recipe.candidates, Histogram):
        given = zip(recipe.candidates.counts, recipe.candidates.weights, strict=True)
        return {count: weight for count, weight in given if weight > 0}
    if recipe.candidates is not None:
        return candidate_histogram(recipe.candidates.draw(_DRAWN, np.random.default_rng(0)))
    from bench.request_log import load_log

    if recipe.log is None:
        raise AssertionError("a workload has candidates or a log")
    return candidate_histogram(load_log(recipe.log, None).candidates)


def choose_buckets(
    histogram: Mapping[int, float],
    count: int,
    *,
    multiple: int = 8,
    greatest: int | None = None,
    beyond: Beyond = "split",
) -> Buckets:
    """Return the buckets that pad least rows, of so many or fewer: exactly, by dynamic programming.

    The best last bucket holds the largest request, and the buckets below it are the best ones for
    what lies below the last but one. So the least padding of the first j sizes with k buckets is
    the least over i of that of the first i with k - 1, plus what j's bucket pads for i … j - 1.

    Args:
        histogram: How often each number of candidates occurs, in any unit.
        count: K, how many buckets there may be.
        multiple: Sizes are multiples of it, as tensor cores and aligned loads like them.
        greatest: The largest bucket, where requests larger than all seen may come; by default the
            one that holds the largest seen. Requests beyond it count as they are run: in pieces.
        beyond: See `Buckets`.

    Raises:
        UserError: The histogram is empty or holds numbers below 1, or a number is below 1.
    """
    if count < 1 or multiple < 1 or (greatest is not None and greatest < 1):
        raise UserError(
            f"{count} buckets of multiples of {multiple} up to {greatest}: all are 1 or more"
        )
    wanted = _pieces_of(histogram, greatest)
    sizes, often, rows = _by_size(wanted, multiple, greatest)
    chosen = _least_padding(sizes, often, rows, count)
    return Buckets(tuple(chosen), beyond)


def padding_waste(buckets: Buckets, histogram: Mapping[int, float]) -> Waste:
    """Return what padding costs for requests of a histogram.

    Raises:
        UserError: A request fits no bucket, and they refuse such.
    """
    rows = padded = 0.0
    runs = dict.fromkeys(buckets.sizes, 0.0)
    for candidates, weight in histogram.items():
        for start, end, size in buckets.pieces(candidates):
            rows += weight * (end - start)
            padded += weight * (size - (end - start))
            runs[size] += weight
    total = sum(runs.values())
    return Waste(rows, padded, {size: each / total for size, each in runs.items()})


def _pieces_of(histogram: Mapping[int, float], greatest: int | None) -> dict[int, float]:
    """Return what is run: requests beyond the greatest bucket come in pieces."""
    found: dict[int, float] = {}
    for candidates, weight in histogram.items():
        if candidates < 1 or weight < 0:
            raise UserError(
                f"a histogram holds {weight:g} requests of {candidates} candidates; expected "
                "candidates from 1 and weights from 0"
            )
        whole, rest = (0, candidates) if greatest is None else divmod(candidates, greatest)
        for size, times in ((greatest or 0, whole), (rest, 1)):
            if size and times:
                found[size] = found.get(size, 0.0) + weight * times
    if not sum(found.values()) > 0:
        raise UserError("there are no requests to choose buckets for")
    return found


def _by_size(
    wanted: Mapping[int, float], multiple: int, greatest: int | None
) -> tuple[Array, Array, Array]:
    """Return the sizes a bucket may have, and of each the runs that need it and their rows."""
    found: dict[int, tuple[float, float]] = {} if greatest is None else {greatest: (0.0, 0.0)}
    for candidates, weight in wanted.items():
        size = -(-candidates // multiple) * multiple
        size = size if greatest is None else min(size, greatest)
        often, rows = found.get(size, (0.0, 0.0))
        found[size] = (often + weight, rows + weight * candidates)
    sizes = sorted(found)
    return (
        np.array(sizes, dtype=np.int64),
        np.array([found[each][0] for each in sizes]),
        np.array([found[each][1] for each in sizes]),
    )


def _least_padding(sizes: Array, often: Array, rows: Array, count: int) -> list[int]:
    """Return the sizes of at most ``count`` of which the sum of padded rows is least."""
    runs_before = np.concatenate([[0.0], np.cumsum(often)])
    rows_before = np.concatenate([[0.0], np.cumsum(rows)])
    places = len(sizes)
    # least[j]: of the first j sizes, all of them held; with no bucket, only none are.
    least = np.full(places + 1, np.inf)
    least[0] = 0.0
    came_from: list[Array] = []
    for _ in range(min(count, places)):
        following = np.full(places + 1, np.inf)
        came = np.zeros(places + 1, dtype=np.int64)
        following[0] = 0.0
        for j in range(1, places + 1):
            padded = sizes[j - 1] * (runs_before[j] - runs_before[:j]) - (
                rows_before[j] - rows_before[:j]
            )
            total = least[:j] + padded
            came[j] = int(np.argmin(total))
            following[j] = total[came[j]]
        came_from.append(came)
        least = following
    chosen = []
    j = places
    for came in reversed(came_from):
        if j == 0:
            break
        chosen.append(int(sizes[j - 1]))
        j = int(came[j])
    return chosen[::-1]
