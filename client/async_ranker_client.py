"""The client for asyncio: the same surface, awaited."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from client.asking import Asking
from client.async_inbox import AsyncInbox
from client.errors import InvalidRequest
from client.gathering import Gathering
from client.ranking import (
    AT_ONCE,
    Ranking,
    best,
    check_at_once,
    check_k,
    merged,
    ranking_request,
    same,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from client.best_effort import Ranked
    from client.fleet import Fleet
    from client.served_model import Question, ServedModel
    from rankers.features import Signature
    from rankers.requests import Array, RankingRequest


class AsyncRankerClient(Ranking):
    """Asks one model, on one server or several replicas, for scores, from coroutines.

    A request that misses its deadline, or whose task is cancelled, is left to its end: see
    `client.unhurried`. One client serves the loops of any number of threads.
    """

    async def rank(self, request: RankingRequest, *, timeout_s: float | None = None) -> Array:
        """Return the score of every candidate, float32 ``[N]``. As `RankerClient.rank`."""
        return (await self.rank_many([request], timeout_s=timeout_s))[0]

    async def rank_many(
        self,
        requests: Sequence[RankingRequest],
        *,
        timeout_s: float | None = None,
        at_once: int = AT_ONCE,
    ) -> list[Array]:
        """Return the scores of several requests. As `RankerClient.rank_many`."""
        self._fleet.check_process()
        check_at_once(at_once)
        timeout_s = self._budget_s(timeout_s)
        served = await self._described()
        try:
            return await self._ask(served, requests, timeout_s, at_once)
        except InvalidRequest:
            # A version deployed since may have other ID ranges or take fewer candidates.
            renewed = await self._described(instead_of=served)
            if same(renewed, served):
                raise
            return await self._ask(renewed, requests, timeout_s, at_once)

    async def top_k(
        self, request: RankingRequest, k: int, *, timeout_s: float | None = None
    ) -> tuple[Array, Array]:
        """Return the best k candidates, best first. As `RankerClient.top_k`."""
        check_k(k)
        return best(await self.rank(request, timeout_s=timeout_s), k)

    async def rank_best_effort(
        self, request: RankingRequest, *, timeout_s: float | None = None
    ) -> Ranked:
        """Return the scores of every candidate, or less, flagged. As `RankerClient`'s."""
        self._fleet.check_process()
        timeout_s = self._budget_s(timeout_s)
        self._degrading()
        served = await self._described()
        variant = await _described(self._variant, self._describing_s(self.timeout_s))
        try:
            return await self._ask_best_effort(served, variant, request, timeout_s)
        except InvalidRequest:
            renewed = await self._described(instead_of=served)
            if same(renewed, served):
                raise
            return await self._ask_best_effort(renewed, variant, request, timeout_s)

    async def request(self, user: Mapping[str, Any], items: Any) -> RankingRequest:
        """Make a request of lists, or of columns of frames. As `RankerClient.request`."""
        return ranking_request(await self.signature(), user, items)

    async def signature(self) -> Signature:
        """Return the model's features and score, as the server states them."""
        return (await self._described()).signature

    async def close(self) -> None:
        """Close the channels, when requests that missed their deadline have ended (5 s at most)."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(
        self,
        served: ServedModel,
        requests: Sequence[RankingRequest],
        timeout_s: float,
        at_once: int,
    ) -> list[Array]:
        if self._tracing is None:
            return await self._ask_untraced(served, requests, timeout_s, at_once)
        with self._tracing.request(requests):
            return await self._ask_untraced(served, requests, timeout_s, at_once)

    async def _ask_untraced(
        self,
        served: ServedModel,
        requests: Sequence[RankingRequest],
        timeout_s: float,
        at_once: int,
    ) -> list[Array]:
        began = time.monotonic()
        asked = self._questions(served, requests)
        flat = [question for questions in asked for question in questions]
        if len(flat) == 1:
            answers = [await self._asked(flat[0], timeout_s, began)]
        else:
            inbox = AsyncInbox()
            gathering = Gathering(self._fleet, flat, timeout_s, at_once, inbox.tell, waiting=inbox)
            await _until_done(gathering, inbox)
            answers = gathering.answers
        scores = merged(asked, answers)
        self._took(began)
        return scores

    async def _asked(self, question: Question, timeout_s: float, began: float) -> Any:
        inbox = AsyncInbox()
        asking = Asking(
            self._fleet,
            question,
            inbox.tell,
            timeout_s=timeout_s,
            deadline=began + timeout_s,
            waiting=inbox,
        )
        try:
            asking.begin(began)
            wait_s = asking.wake_at - began  # the same each time, which a socket need not be told
            while not asking.done:
                asking.advance(await inbox.get(wait_s))
                wait_s = asking.wait_s
        finally:
            inbox.leave()
        return asking.answer()

    async def _ask_best_effort(
        self,
        served: ServedModel,
        variant: ServedModel | None,
        request: RankingRequest,
        timeout_s: float,
    ) -> Ranked:
        with self._tracing.request([request]) if self._tracing else nullcontext():
            return await self._ask_best_effort_untraced(served, variant, request, timeout_s)

    async def _ask_best_effort_untraced(
        self,
        served: ServedModel,
        variant: ServedModel | None,
        request: RankingRequest,
        timeout_s: float,
    ) -> Ranked:
        began = time.monotonic()
        inbox = AsyncInbox()
        asked = self._best_effort(served, variant, request, timeout_s, inbox)
        await _until_done(asked, inbox)
        return self._took_best_effort(asked.answer, began)

    async def _described(self, *, instead_of: ServedModel | None = None) -> ServedModel:
        known = self._fleet.known
        if known is not None and known is not instead_of:
            return known
        return await asyncio.to_thread(
            self._fleet.described, self._describing_s(self.timeout_s), instead_of=instead_of
        )


async def _until_done(asked: Any, inbox: AsyncInbox) -> None:
    """Wait for what ends and what is due, in turn."""
    try:
        asked.advance()
        while not asked.done:
            asked.advance(await inbox.get(asked.wait_s))
    finally:
        inbox.leave()


async def _described(fleet: Fleet | None, timeout_s: float) -> ServedModel | None:
    if fleet is None:
        return None
    if fleet.known is not None:
        return fleet.known
    return await asyncio.to_thread(fleet.described, timeout_s)
