"""Questions asked at once, and their answers in order, for threads and for coroutines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from client.asking import Asked, Asking, Heard
from client.errors import RankClientError, ServerOverloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from client.fleet import Fleet
    from client.inbox import Waiting


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
        self._open: dict[int, Asking] = {}
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
        if heard is not None:
            question = heard[0]
            if question in self._open:
                self._open[question].advance(heard)
                self._look(question)
        else:
            for question in list(self._open):
                self._open[question].advance()
                self._look(question)
        while len(self._open) < self._at_once and self._next < len(self._questions):
            self._begin(self._next)
            self._next += 1

    def _begin(self, number: int) -> None:
        asking = Asking(
            self._fleet,
            self._questions[number],
            self._tell,
            timeout_s=self._timeout_s,
            deadline=self._deadline,
            waiting=self._waiting,
            number=number,
        )
        try:
            asking.begin(time.monotonic())
        except ServerOverloaded as error:
            self._fail(number, error)
        else:
            self._open[number] = asking
            self._look(number)

    def _look(self, number: int) -> None:
        asking = self._open[number]
        if not asking.done:
            return
        del self._open[number]
        try:
            self._answers[number] = asking.answer()
        except RankClientError as error:
            self._fail(number, error)

    def _fail(self, number: int, failure: RankClientError) -> None:
        if not self._keep:
            raise failure
        self.failures[number] = failure
