"""Amazon reviews, a JSON object on each line (also gzipped), as published in 2014, 2018 and 2023.

A request asks for a person's next purchase: the user's side is what they had reviewed before, the
candidates are the item they reviewed next (label 1) and items drawn from all of the file's (label
0), as Zhou et al. (Deep Interest Network, KDD 2018) evaluate on this data.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.data.histories import Events, liked_before
from rankers.data.lines import stream_text
from rankers.data.log import RankingLog
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from pathlib import Path

    from rankers.requests import Array

HISTORY = 50
DRAWN = 19  # items beside the one that was reviewed
# The editions' names for the same things; times are in seconds, of 2023 in milliseconds.
_USER = ("reviewerID", "user_id")
_ITEM = ("asin", "parent_asin")
_TIME = ("unixReviewTime", "timestamp")


def is_amazon(line: str) -> bool:
    """Return whether a line looks like one of these files."""
    try:
        data = json.loads(line)
    except ValueError:
        return False
    return isinstance(data, dict) and any(name in data for name in _ITEM)


def read_amazon(path: Path, *, rows: int | None = None, seed: int = 0) -> RankingLog:
    """Read a file to a log with the features ``history`` (user) and ``item``.

    Items are numbered from 1 in the order of their names; 0 is padding. A person's first review has
    nothing before it and makes no request.

    Args:
        path: The file.
        rows: How many reviews to read at most.
        seed: Of the items that are drawn.

    Raises:
        UserError: A line is broken (the message names it), or nobody reviewed twice.
    """
    people, names, times = _reviews(path, rows)
    catalogue, item = np.unique(names, return_inverse=True)
    _, user = np.unique(people, return_inverse=True)
    events = Events(user, item.astype(np.int64) + 1, np.array(times))
    order = events.order()
    user, item, time_s = events.user[order], events.item[order], events.time_s[order]
    firsts = np.flatnonzero(np.diff(user, prepend=-1))
    again = np.setdiff1d(np.arange(len(user)), firsts)
    if not len(again):
        raise UserError(f"{path}: nobody reviewed twice in the {len(user)} reviews read")
    again = again[np.argsort(time_s[again], kind="stable")]
    ascending = np.sort(again)
    history = liked_before(item, np.ones(len(item), dtype=bool), firsts, ascending, HISTORY)
    history = history[np.searchsorted(ascending, again)]
    candidates, labels = _candidates(item[again], len(catalogue), np.random.default_rng(seed))
    size = len(catalogue) + 1
    return RankingLog(
        requests=RequestBatch(
            user={"history": history},
            items={"item": candidates.reshape(-1)},
            offsets=np.arange(len(again) + 1, dtype=np.int64) * candidates.shape[1],
            labels=labels.reshape(-1),
        ),
        signature=Signature(
            (
                Feature("history", "int64", (HISTORY,), "user", size, padding=0),
                Feature("item", "int64", (), "item", size),
            ),
            "probability",
        ),
    )


def _reviews(path: Path, rows: int | None) -> tuple[list[str], list[str], list[float]]:
    people: list[str] = []
    items: list[str] = []
    times: list[float] = []
    for number, text in stream_text(path):
        if rows is not None and len(people) >= rows:
            break
        if not text.strip():
            continue
        where = f"{path} line {number}"
        try:
            review = json.loads(text)
        except ValueError as error:
            raise UserError(f"{where}: not a JSON object: {error}") from error
        people.append(str(_field(where, review, _USER)))
        items.append(str(_field(where, review, _ITEM)))
        time = _field(where, review, _TIME)
        if not isinstance(time, int | float) or isinstance(time, bool) or not np.isfinite(time):
            raise UserError(f"{where}: the time is {time!r}; expected a number of seconds")
        times.append(float(time))
    if not people:
        raise UserError(f"{path}: the file holds no reviews")
    return people, items, times


def _field(where: str, review: Any, names: tuple[str, ...]) -> Any:
    if isinstance(review, dict):
        for name in names:
            if review.get(name) is not None:
                return review[name]
    raise UserError(f"{where}: has none of {', '.join(names)}; is this a file of reviews?")


def _candidates(item: Array, catalogue: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Return candidates, the reviewed one in a drawn place, and labels: ``[R, N]`` each."""
    drawn = min(DRAWN, catalogue - 1)
    others = random.integers(1, max(catalogue, 2), (len(item), drawn))
    others += others >= item[:, np.newaxis]  # any item but the reviewed one
    candidates = np.concatenate([item[:, np.newaxis], others], axis=1)
    labels = np.zeros(candidates.shape, dtype=np.float32)
    labels[:, 0] = 1
    places = random.permuted(np.tile(np.arange(candidates.shape[1]), (len(item), 1)), axis=1)
    return np.take_along_axis(candidates, places, 1), np.take_along_axis(labels, places, 1)
