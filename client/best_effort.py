"""A request that may be answered with less: the whole of it, something cheaper, or parts.

A state machine as `client.gathering` is, for threads and for coroutines: it is told what ended and
says when it wants to be woken up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from client.errors import ClientForked, InvalidRequest, ModelNotFound, RankClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from client.asking import Heard
    from client.gathering import Gathering
    from client.policies.degrading import Degrading
    from client.served_model import Question
    from rankers.requests import Array

WHOLE, LESS = 0, 1
# Asking for less would not help: it is the caller's mistake.
_HOPELESS = (InvalidRequest, ModelNotFound, ClientForked)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Scores that may not be all that was asked for.

    Attributes:
        scores: float32 ``[N]``, one a candidate; NaN where there is none.
        complete: Whether every score is there, and of the model that was asked.
        how: What was done instead: ``fewer candidates``, ``variant``, ``variant, fewer
            candidates`` or ``partial``; empty if nothing was.
        model: Whose scores they are. Those of a variant need not compare with others'.
    """

    scores: Array
    complete: bool
    how: str
    model: str

    def top_k(self, k: int) -> tuple[Array, Array]:
        """Return the best k candidates that have a score, best first, as `RankerClient.top_k`.

        Raises:
            InvalidRequest: k is below 1.
        """
        if k < 1:
            raise InvalidRequest(f"k is {k}; ask for 1 candidate or more")
        known = np.flatnonzero(~np.isnan(self.scores))
        order = known[np.argsort(-self.scores[known], kind="stable")[:k]]
        return order, self.scores[order]


@dataclass(frozen=True, slots=True)
class Less:
    """What is asked for in place of the whole.

    Attributes:
        questions: Of the first candidates, or of all.
        gather: Makes what asks, as ``whole`` does, given the seconds that are left.
        model: Who is asked.
        how: What that is called.
    """

    questions: Sequence[Question]
    gather: Callable[[float], Gathering]
    model: str
    how: str


class BestEffort:
    """Asks for the whole, and for less when that fails or takes long.

    Args:
        whole: Of all candidates; it keeps failures, and its answers are scores.
        questions: What it asks, in order.
        less: What else may be asked for; None if nothing.
        degrading: What is allowed.
        model: Who is asked for the whole.
        timeout_s: For all of it.
    """

    def __init__(
        self,
        whole: Gathering,
        questions: Sequence[Question],
        less: Less | None,
        *,
        degrading: Degrading,
        model: str,
        timeout_s: float,
    ) -> None:
        self._whole, self._questions, self._less = whole, questions, less
        self._degrading, self._model = degrading, model
        now = time.monotonic()
        self._deadline = now + timeout_s
        self._less_at = now + degrading.after * timeout_s
        self._asked_less: Gathering | None = None
        self._count = sum(each.candidates for each in questions)
        self._ranked: Ranked | None = None

    @property
    def done(self) -> bool:
        """Whether it is known what the answer is."""
        return self._ranked is not None

    @property
    def answer(self) -> Ranked:
        """The answer, when it is done."""
        if self._ranked is None:
            raise RuntimeError("it is not done")
        return self._ranked

    @property
    def wait_s(self) -> float:
        """How long to wait for an end before `advance` is to be called without one."""
        waits = [each.wait_s for each in self._gatherings() if not each.done]
        if self._less is not None and self._asked_less is None:
            waits.append(max(0.0, self._less_at - time.monotonic()))
        return min(waits, default=0.0)

    def advance(self, heard: tuple[int, Heard] | None = None) -> None:
        """Take note of an end, and do what is due.

        Raises:
            RankClientError: There is no answer, and nothing that is allowed in place of it.
        """
        if heard is None:
            for each in self._gatherings():
                each.advance()
        else:
            which, what = heard
            self._gatherings()[which].advance(what)
        self._decide()

    def _gatherings(self) -> list[Gathering]:
        return [self._whole] if self._asked_less is None else [self._whole, self._asked_less]

    def _decide(self) -> None:
        whole, less = self._whole, self._less
        for failure in whole.failures.values():
            if isinstance(failure, _HOPELESS):
                raise failure
        if whole.done and not whole.failures:
            scores = self._scores(self._questions, whole.answers)
            self._ranked = Ranked(scores, complete=True, how="", model=self._model)
            return
        now = time.monotonic()
        failed = bool(whole.failures)
        if less is not None and self._asked_less is None and (failed or now >= self._less_at):
            self._asked_less = less.gather(max(0.0, self._deadline - now))
            self._asked_less.advance()
        asked = self._asked_less
        if less is not None and asked is not None and asked.done and not asked.failures:
            scores = self._scores(less.questions, asked.answers)
            self._ranked = Ranked(scores, complete=False, how=less.how, model=less.model)
        elif whole.done and (asked is None or asked.done):
            self._take_parts(next(iter(whole.failures.values())))

    def _take_parts(self, failure: RankClientError) -> None:
        came = any(each is not None for each in self._whole.answers)
        if not self._degrading.partial or not came:
            raise failure
        scores = self._scores(self._questions, self._whole.answers)
        self._ranked = Ranked(scores, complete=False, how="partial", model=self._model)

    def _scores(self, questions: Sequence[Question], answers: Sequence[Array | None]) -> Array:
        """Return the scores of all candidates; NaN for parts without an answer."""
        scores = np.full(self._count, np.nan, np.float32)
        end = 0
        for question, answer in zip(questions, answers, strict=True):
            begin, end = end, end + question.candidates
            if answer is not None:
                scores[begin:end] = answer
        return scores
