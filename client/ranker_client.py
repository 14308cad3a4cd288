"""The client: a ranking request in, scores out."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from client.asking import Asking
from client.errors import InvalidRequest
from client.gathering import Gathering
from client.inbox import Inbox
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
    from client.served_model import Question, ServedModel
    from rankers.features import Signature
    from rankers.requests import Array, RankingRequest


class RankerClient(Ranking):
    """Asks one model, on one server or several replicas, for scores. Safe to use from threads.

    A request that misses its deadline is left to its end, not cancelled: see `client.unhurried`.
    """

    def rank(self, request: RankingRequest, *, timeout_s: float | None = None) -> Array:
        """Return the score of every candidate, float32 ``[N]``.

        Args:
            request: One user and N candidates; labels are not sent. More candidates than the model
                answers at once are split over several calls.
            timeout_s: For this request, in place of the client's.

        Raises:
            InvalidRequest: The request does not fit the model's features.
            ServerUnreachable, ModelNotFound, ModelNotReady, ServerOverloaded, DeadlineExceeded,
            ModelFailed, ClientForked: As their names say; all are `RankClientError`.
        """
        return self.rank_many([request], timeout_s=timeout_s)[0]

    def rank_many(
        self,
        requests: Sequence[RankingRequest],
        *,
        timeout_s: float | None = None,
        at_once: int = AT_ONCE,
    ) -> list[Array]:
        """Return the scores of several requests, in their order, float32 ``[N]`` each.

        Args:
            requests: Asked for side by side.
            timeout_s: For all of them together, in place of the client's.
            at_once: How many calls may be under way.

        Raises:
            RankClientError: As `rank` does; one request that fails fails them all.
        """
        self._fleet.check_process()
        check_at_once(at_once)
        timeout_s = self._budget_s(timeout_s)
        served = self._described()
        try:
            return self._ask(served, requests, timeout_s, at_once)
        except InvalidRequest:
            # A version deployed since may have other ID ranges or take fewer candidates.
            renewed = self._described(instead_of=served)
            if same(renewed, served):
                raise
            return self._ask(renewed, requests, timeout_s, at_once)

    def top_k(
        self, request: RankingRequest, k: int, *, timeout_s: float | None = None
    ) -> tuple[Array, Array]:
        """Return the best k candidates, best first; those of equal score in the request's order.

        Args:
            request: As for `rank`.
            k: How many; all of them if there are fewer.
            timeout_s: As for `rank`.

        Returns:
            Their positions in the request, int64 ``[k]``, and their scores, float32 ``[k]``.

        Raises:
            InvalidRequest: k is below 1; and what `rank` raises.
        """
        check_k(k)
        return best(self.rank(request, timeout_s=timeout_s), k)

    def rank_best_effort(
        self, request: RankingRequest, *, timeout_s: float | None = None
    ) -> Ranked:
        """Return the scores of every candidate or, where they do not come, less, flagged as less.

        What may be done is in the client's ``policies``: `Policies(degrade=Degrading(…))`.

        Args:
            request: As for `rank`.
            timeout_s: For all of it, in place of the client's.

        Raises:
            RankClientError: As `rank` does, where nothing that is allowed came either; and
                `ModelNotFound` if the variant is not there when the first request is asked.
        """
        self._fleet.check_process()
        timeout_s = self._budget_s(timeout_s)
        self._degrading()
        served = self._described()
        described_s = self._describing_s(self.timeout_s)
        variant = self._variant.described(described_s) if self._variant else None
        try:
            return self._ask_best_effort(served, variant, request, timeout_s)
        except InvalidRequest:
            renewed = self._described(instead_of=served)
            if same(renewed, served):
                raise
            return self._ask_best_effort(renewed, variant, request, timeout_s)

    def request(self, user: Mapping[str, Any], items: Any) -> RankingRequest:
        """Make a request of lists, or of columns of pandas, Polars or Arrow.

        Args:
            user: The user's value of each feature.
            items: A mapping, frame or table with a column a feature and a row a candidate.

        Raises:
            RequestError: Something is missing or does not become the feature's dtype.
        """
        return ranking_request(self.signature, user, items)

    @property
    def signature(self) -> Signature:
        """The model's features and score, as the server states them."""
        return self._described().signature

    def close(self) -> None:
        """Close the channels, when requests that missed their deadline have ended (5 s at most).

        Requests that other threads still wait for fail.
        """
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self,
        served: ServedModel,
        requests: Sequence[RankingRequest],
        timeout_s: float,
        at_once: int,
    ) -> list[Array]:
        if self._tracing is None:
            return self._ask_untraced(served, requests, timeout_s, at_once)
        with self._tracing.request(requests):
            return self._ask_untraced(served, requests, timeout_s, at_once)

    def _ask_untraced(
        self,
        served: ServedModel,
        requests: Sequence[RankingRequest],
        timeout_s: float,
        at_once: int,
    ) -> list[Array]:
        began = time.monotonic()
        asked = self._questions(served, requests)
        flat = [question for questions in asked for question in questions]
        if len(flat) == 1 and self._fleet.alone:
            answers = [self._fleet.ask_alone(flat[0], timeout_s)]
        elif len(flat) == 1:
            answers = [self._asked(flat[0], timeout_s)]
        else:
            answers = self._gathered(flat, timeout_s, at_once)
        scores = merged(asked, answers)
        self._took(began)
        return scores

    def _asked(self, question: Question, timeout_s: float) -> Any:
        inbox, now = Inbox(), time.monotonic()
        asking = Asking(
            self._fleet,
            question,
            inbox.tell,
            timeout_s=timeout_s,
            deadline=now + timeout_s,
            waiting=inbox,
        )
        try:
            asking.begin(now)
            wait_s = asking.wake_at - now  # the same each time, which a socket need not be told
            while not asking.done:
                asking.advance(inbox.get(wait_s))
                wait_s = asking.wait_s
        finally:
            inbox.leave()
        return asking.answer()

    def _gathered(self, questions: Sequence[Question], timeout_s: float, at_once: int) -> list[Any]:
        inbox = Inbox()
        gathering = Gathering(self._fleet, questions, timeout_s, at_once, inbox.tell, waiting=inbox)
        _until_done(gathering, inbox)
        return gathering.answers

    def _ask_best_effort(
        self,
        served: ServedModel,
        variant: ServedModel | None,
        request: RankingRequest,
        timeout_s: float,
    ) -> Ranked:
        with self._tracing.request([request]) if self._tracing else nullcontext():
            return self._ask_best_effort_untraced(served, variant, request, timeout_s)

    def _ask_best_effort_untraced(
        self,
        served: ServedModel,
        variant: ServedModel | None,
        request: RankingRequest,
        timeout_s: float,
    ) -> Ranked:
        began = time.monotonic()
        inbox = Inbox()
        asked = self._best_effort(served, variant, request, timeout_s, inbox)
        _until_done(asked, inbox)
        return self._took_best_effort(asked.answer, began)

    def _described(self, *, instead_of: ServedModel | None = None) -> ServedModel:
        return self._fleet.described(self._describing_s(self.timeout_s), instead_of=instead_of)


def _until_done(asked: Any, inbox: Inbox) -> None:
    """Wait for what ends and what is due, in turn."""
    try:
        asked.advance()
        while not asked.done:
            asked.advance(inbox.get(asked.wait_s))
    finally:
        inbox.leave()
