"""Questions asked at once, and their answers in order, for threads and for coroutines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from client.attempts import Attempts
from client.errors import RankClientError, ServerOverloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from client.completions import Ended
    from client.fleet import Fleet
    from client.inbox import Waiting


class Asked(Protocol):
    """A question: its bytes, given how long the server may keep it, and what an answer means."""

    def body(self, timeout_s: float) -> bytes:
        """Return the request."""
        ...

    def read(self, response: bytes) -> Any:
        """Return what the answer says.

        Raises:
            CallFailed: It is no answer.
            RankClientError: The model failed.
        """
        ...


Heard = tuple[int, int, "Ended"]  # question, attempt, how it ended


class Gathering:
    """Asks questions, some at a time, until all are answered or one fails.

    Args:
        fleet: Whom to ask.
        questions: What to ask.
        timeout_s: For all of them together.
        at_once: How many may be under way.
        tell: Is told of ends by any thread; hands them to `advance` on the caller's own.
        waiting: Who waits for calls on the caller's own thread.
        keep: Go on with the others when one fails, and keep how it did.

    Attributes:
        failures: Of questions that got no answer, if they are kept.
    """

    def __init__(
        self,
        fleet: Fleet,
        questions: Sequence[Asked],
        timeout_s: float,
        at_once: int,
        tell: Callable[[Heard], None],
        *,
        waiting: Waiting | None = None,
        keep: bool = False,
    ) -> None:
        self._fleet, self._questions, self._tell, self._waiting = fleet, questions, tell, waiting
        self._timeout_s, self._at_once = timeout_s, at_once
        self._deadline = time.monotonic() + timeout_s
        self._open: dict[int, Attempts] = {}
        self._next = 0
        self._answers: list[Any] = [None] * len(questions)
        self._keep = keep
        self.failures: dict[int, RankClientError] = {}

    @property
    def done(self) -> bool:
        """Whether all are answered."""
        return not self._open and self._next == len(self._questions)

    @property
    def wait_s(self) -> float:
        """How long to wait for an end before `advance` is to be called without one."""
        wake_at = min((each.wake_at for each in self._open.values()), default=0.0)
        return max(0.0, wake_at - time.monotonic())

    @property
    def answers(self) -> list[Any]:
        """What was read of each one's answer; None of those that failed."""
        return self._answers

    def advance(self, heard: Heard | None = None) -> None:
        """Take note of an end, and do what is due.

        Raises:
            RankClientError: A question got no answer.
        """
        now = time.monotonic()
        if heard is not None:
            question, attempt, ended = heard
            if question in self._open:
                self._open[question].heard(attempt, ended, now)
                self._look(question)
        else:
            for question in list(self._open):
                self._open[question].woke(now)
                self._look(question)
        while len(self._open) < self._at_once and self._next < len(self._questions):
            self._begin(self._next, now)
            self._next += 1

    def _begin(self, question: int, now: float) -> None:
        body = self._questions[question].body

        def send(place: int, attempt: int) -> None:
            left_s = self._deadline - time.monotonic()
            self._fleet.send(
                place,
                body(left_s),
                lambda ended: self._tell((question, attempt, ended)),
                attempts.kind(attempt),
                self._waiting,
            )

        attempts = self._open[question] = Attempts(self._fleet, self._deadline, send)
        try:
            attempts.begin(now)
        except ServerOverloaded as error:
            del self._open[question]
            self._fail(question, error, error.__cause__)
        else:
            self._look(question)

    def _look(self, question: int) -> None:
        attempts = self._open[question]
        if not attempts.done:
            return
        del self._open[question]
        if attempts.ended is None:
            self._fail(question, self._fleet.too_late(self._timeout_s), None)
            return
        try:
            self._answers[question] = self._questions[question].read(attempts.ended.answer())
        except grpc.RpcError as error:
            explained = self._fleet.explained(attempts.place, error, self._timeout_s)
            self._fail(question, explained, error)
        except RankClientError as error:
            self._fail(question, error, error.__cause__)

    def _fail(self, question: int, failure: RankClientError, cause: BaseException | None) -> None:
        if not self._keep:
            raise failure from cause
        self.failures[question] = failure
