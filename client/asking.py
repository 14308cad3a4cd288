"""One question, asked until it is answered, fails or comes too late; for threads and coroutines."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from client.attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.completions import Ended
    from client.fleet import Fleet
    from client.inbox import Waiting
    from client.sharing import Share

Heard = tuple[int, int, "Ended"]  # question, attempt, how it ended


class Asked(Protocol):
    """A question: its bytes, given how long the server may keep it, and what an answer means."""

    def body(self, timeout_s: float, share: Share | None = None) -> bytes:
        """Return the request; its tensors may be written where ``share`` says."""
        ...

    def read(self, response: bytes) -> Any:
        """Return what the answer says.

        Raises:
            CallFailed: It is no answer.
            RankClientError: The model failed.
        """
        ...


class Asking:
    """Asks a question by all policies.

    Args:
        fleet: Whom to ask.
        question: What to ask.
        tell: Is told of ends by any thread; hands them to `advance` on the caller's own.
        timeout_s: How long it may take, for a message.
        deadline: Until when.
        waiting: Who waits for calls on the caller's own thread.
        number: Of the question, for those who ask several.
    """

    def __init__(
        self,
        fleet: Fleet,
        question: Asked,
        tell: Callable[[Heard], None],
        *,
        timeout_s: float,
        deadline: float,
        waiting: Waiting | None = None,
        number: int = 0,
    ) -> None:
        self._fleet, self._question, self._timeout_s = fleet, question, timeout_s
        self._deadline, self._tell, self._waiting = deadline, tell, waiting
        self._number, self._first_s = number, timeout_s
        self._attempts = Attempts(fleet, deadline, self._send)

    @property
    def done(self) -> bool:
        """Whether `answer` has something to say."""
        return self._attempts.done

    @property
    def wake_at(self) -> float:
        """When `advance` is to be called if nothing ends before."""
        return self._attempts.wake_at

    @property
    def wait_s(self) -> float:
        """How long to wait for an end before that."""
        return max(0.0, self._attempts.wake_at - time.monotonic())

    def begin(self, now: float) -> None:
        """Send the question.

        Raises:
            ServerOverloaded: The client's limits say no.
        """
        left_s = self._deadline - now
        if left_s < self._first_s * 0.999:
            self._first_s = left_s
        self._attempts.begin(now)

    def advance(self, heard: Heard | None = None) -> None:
        """Take note of an end, or do what is due."""
        if heard is None:
            self._attempts.woke(time.monotonic())
        else:
            self._attempts.heard(heard[1], heard[2], time.monotonic())

    def answer(self) -> Any:
        """Return what was read of the answer.

        Raises:
            RankClientError: There is none.
        """
        attempts = self._attempts
        if attempts.ended is None:
            raise self._fleet.too_late(self._timeout_s)
        try:
            return self._question.read(attempts.ended.answer())
        except grpc.RpcError as error:
            raise self._fleet.explained(attempts.place, error, self._timeout_s) from error

    def _send(self, place: int, attempt: int) -> None:
        number, tell = self._number, self._tell
        # What is left for the first is a question of microseconds, and the same bytes each time.
        left_s = self._deadline - time.monotonic() if attempt else self._first_s
        self._fleet.send(
            place,
            partial(self._question.body, left_s),
            lambda ended: tell((number, attempt, ended)),
            self._attempts.kind(attempt),
            self._waiting,
        )
