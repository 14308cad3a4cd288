"""Load at Poisson times of which every answer is compared with what it has to be."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rankers.requests import Array, RankingRequest

_WORKERS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: from its intended moment to its scores."""

    latency_s: float
    error: str
    wrong: bool


class Load:
    """Asks requests, and compares every answer.

    Args:
        client: Of all replicas.
        requests: Asked in turn.
        expected: The scores of each.
    """

    def __init__(self, client: Any, requests: list[RankingRequest], expected: list[Array]) -> None:
        self._client, self._requests, self._expected = client, requests, expected

    def ask(self, number: int, intended: float) -> Answer:
        """Ask one request."""
        place = number % len(self._requests)
        error, wrong = "", False
        try:
            scores = self._client.rank(self._requests[place])
            wrong = not np.allclose(scores, self._expected[place], rtol=0, atol=1e-5)
        except UserError as failure:
            error = f"{type(failure).__name__}: {failure}"
        return Answer(time.monotonic() - intended, error, wrong)

    def closed_loop(self, seconds: float, threads: int) -> float:
        """Return how many requests a second are answered."""
        until = time.monotonic() + seconds

        def work(first: int) -> int:
            number = first
            while (now := time.monotonic()) < until:
                self.ask(number, now)
                number += threads
            return (number - first) // threads

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(work, range(threads))) / seconds

    def open_loop(self, rate: float, happens: Callable[[], None], least_s: float) -> list[Answer]:
        """Ask at Poisson times until what happens is over and ``least_s`` have passed."""
        random = np.random.default_rng(0)
        failed: list[BaseException] = []

        def happen() -> None:
            try:
                happens()
            except BaseException as error:  # noqa: BLE001 - raised below
                failed.append(error)

        thread = threading.Thread(target=happen)
        began = intended = time.monotonic()
        thread.start()
        asked: list[Future[Answer]] = []
        with ThreadPoolExecutor(_WORKERS) as pool:
            while thread.is_alive() or time.monotonic() - began < least_s:
                intended += random.exponential(1 / rate)
                time.sleep(max(0.0, intended - time.monotonic()))
                asked.append(pool.submit(self.ask, len(asked), intended))
            answers = [each.result() for each in asked]
        if failed:
            raise failed[0]
        return answers
