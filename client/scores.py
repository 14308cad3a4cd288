"""What is asked for and given back: fewer candidates, scores in one piece, the best of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from client.errors import InvalidRequest
from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from client.served_model import Question
    from rankers.requests import Array


def first(request: RankingRequest, count: int | None) -> RankingRequest:
    """Return the request of the first so many candidates; itself if there are no more."""
    if count is None or request.candidates <= count:
        return request
    items = {name: column[:count] for name, column in request.items.items()}
    return RankingRequest(request.user, items)


def merged(asked: Iterable[list[Question]], answers: Iterable[Any]) -> list[Array]:
    """Return the scores of each request, float32 ``[N]``, from those of its questions."""
    each: Iterator[Any] = iter(answers)
    scores = [[next(each) for _ in questions] for questions in asked]
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in scores]


def best(scores: Array, k: int) -> tuple[Array, Array]:
    """Return the best k, best first; those of equal score in the request's order."""
    order = np.argsort(-scores, kind="stable")[:k]
    return order, scores[order]


def check_k(k: int) -> None:
    """Check how many are asked for.

    Raises:
        InvalidRequest: k is below 1.
    """
    if k < 1:
        raise InvalidRequest(f"k is {k}; ask for 1 candidate or more")
