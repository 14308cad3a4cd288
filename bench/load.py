"""Load on a target: a closed loop at a concurrency, an open loop at a schedule.

Nothing here knows what a target is: a load calls a function with prepared requests, which are made
before the timed section. Each worker is a thread; one alone is the caller's. In the open loop a
free worker claims the next arrival ahead of its time, sleeps until it is due and sends it itself:
no queue and no wake-up of another thread lie between the due time and the call.
"""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.clock import PreciseClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.clock import Clock
    from rankers.requests import Array

_LEAD_S = 0.005
_MESSAGES = 3


@dataclass(frozen=True, slots=True, eq=False)
class LoadResult:
    """What a load did; warm-up is not in it.

    Attributes:
        index: Which of the prepared requests each answered one was, int64 ``[ok]``.
        intended_s: When each was due, float64 ``[ok]`` seconds after the beginning. In a closed
            loop a request is due when it is sent.
        started_s: When each was sent, ``[ok]``.
        finished_s: When each was answered, ``[ok]``.
        lag_s: How late the generator itself was, for the arrivals a free worker waited for; empty
            in a closed loop.
        errors: Requests whose call raised.
        error_messages: The first few different ones.
        late: Arrivals that found every worker busy. They were sent late and count from when they
            were due.
        dropped: Arrivals that were given up because they were too late.
        duration_s: From the beginning to the last answer.
        cpu_s: Of this process meanwhile, polling of the clock included.
    """

    index: Array
    intended_s: Array
    started_s: Array
    finished_s: Array
    lag_s: Array
    errors: int
    error_messages: tuple[str, ...]
    late: int
    dropped: int
    duration_s: float
    cpu_s: float = 0.0

    @property
    def ok(self) -> int:
        """Requests that were answered."""
        return len(self.index)

    @property
    def response_s(self) -> Array:
        """From when each was due to its answer: what a user waits, float64 ``[ok]``."""
        return self.finished_s - self.intended_s

    @property
    def service_s(self) -> Array:
        """From when each was sent to its answer, float64 ``[ok]``."""
        return self.finished_s - self.started_s


def closed_loop(
    call: Callable[[Any], Any],
    requests: Sequence[Any],
    *,
    concurrency: int,
    count: int | None = None,
    duration_s: float | None = None,
    warmup: int = 0,
    first: int = 0,
    clock: Clock | None = None,
) -> LoadResult:
    """Send from ``concurrency`` threads, each as soon as its last request was answered.

    Request k of the run is ``requests[(first + k) % len(requests)]``, whichever thread sends it: no
    two threads send the same one at the same time, and two runs send the same requests.

    Args:
        call: The target. What it returns is not looked at; what it raises is counted.
        requests: Prepared requests.
        concurrency: How many are under way at any time.
        count: How many requests to send; or
        duration_s: for how long.
        warmup: Requests to send and forget before, over all threads; at least one each if not 0.
            They are those before the first: what is timed does not find its own rows in a cache.
        first: The place of the first request.
        clock: By default the machine's.
    """
    if (count is None) == (duration_s is None):
        raise ValueError("give either count or duration_s")

    def work(worker: _Worker, stage: _Stage) -> None:
        for number in stage.numbers(count):
            started = worker.clock.now()
            if duration_s is not None and started - stage.beginning >= duration_s:
                return
            worker.send(number, started, started)

    crew = [_Worker(call, requests, first, clock or PreciseClock()) for _ in range(concurrency)]
    return _run(crew, work, warmup=warmup, lead_s=0.0)


def open_loop(
    call: Callable[[Any], Any],
    requests: Sequence[Any],
    *,
    schedule_s: Array,
    workers: int,
    warmup: int = 0,
    drop_after_s: float = 30.0,
    first: int = 0,
    clock: Clock | None = None,
) -> LoadResult:
    """Send request k at ``schedule_s[k]``, whether or not earlier ones were answered.

    Args:
        call: The target. What it returns is not looked at; what it raises is counted.
        requests: Prepared requests; arrival k sends ``requests[(first + k) % len(requests)]``.
        schedule_s: When each is due, seconds after the beginning (`bench.arrivals`).
        workers: How many can be under way at once. For a target that queues by itself there must be
            so many that none is ever late; for a function called in process this is the number of
            servers in front of which the late ones queue.
        warmup: Requests to send and forget before, over all workers; at least one each if not 0.
        drop_after_s: An arrival later than this is given up, so that an overloaded run ends.
        first: The place of the first request.
        clock: By default the machine's.
    """
    due_s = schedule_s.tolist()  # Python floats: indexing an array costs ten times as much

    def work(worker: _Worker, stage: _Stage) -> None:
        clock = worker.clock
        for number in stage.numbers(len(due_s)):
            intended = stage.beginning + due_s[number]
            behind = clock.now() - intended
            if behind > drop_after_s:
                worker.dropped += 1
                continue
            if behind > 0:
                worker.late += 1
                worker.send(number, intended, clock.now())
                continue
            if not clock.sleep_until(intended, stage.called_off):
                return
            started = clock.now()
            worker.lags.append(started - intended)
            worker.send(number, intended, started)

    crew = [_Worker(call, requests, first, clock or PreciseClock()) for _ in range(workers)]
    return _run(crew, work, warmup=warmup, lead_s=_LEAD_S)


@dataclass(slots=True)
class _Stage:
    """What the workers of one load share."""

    called_off: threading.Event = field(default_factory=threading.Event)
    beginning: float = 0.0
    cpu_s: float = 0.0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def numbers(self, count: int | None) -> Iterator[int]:
        """Claim request numbers, each for one worker alone, until ``count`` or being called off."""
        while not self.called_off.is_set():
            number = next(self._numbers)  # one bytecode into C: atomic
            if count is not None and number >= count:
                return
            yield number


@dataclass(slots=True)
class _Worker:
    """One thread's calls and what became of them."""

    call: Callable[[Any], Any]
    requests: Sequence[Any]
    first: int
    clock: Clock
    answered: list[tuple[int, float, float, float]] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    late: int = 0
    dropped: int = 0
    last: float = 0.0

    def send(self, number: int, intended: float, started: float) -> None:
        index = (self.first + number) % len(self.requests)
        try:
            self.call(self.requests[index])
        except Exception as error:  # noqa: BLE001 - whatever a target raises is a failed request
            self.last = self.clock.now()
            self.errors[f"{type(error).__name__}: {error}"] += 1
            return
        self.last = self.clock.now()
        self.answered.append((index, intended, started, self.last))

    def warm_up(self, first: int, count: int) -> None:
        """Send without counting. A failure is not hidden by this: it comes again when counted."""
        for number in range(first, first + count):
            self.send(number, 0.0, 0.0)
        self.answered.clear()
        self.errors.clear()


def _run(
    crew: list[_Worker], work: Callable[[_Worker, _Stage], None], *, warmup: int, lead_s: float
) -> LoadResult:
    """Start the workers, warm them up, let them begin together, and gather what they did.

    One alone works in this thread, which tried the target: OpenMP has a team for each that ever
    computed, and with more threads in all than cores they sleep between loops, not spin.
    """
    workers = len(crew)
    if workers < 1 or not crew[0].requests:
        raise ValueError("a load needs at least 1 worker and 1 request")
    stage = _Stage()
    each = -(-warmup // workers)

    def begin() -> None:
        stage.cpu_s = time.process_time()
        stage.beginning = crew[0].clock.now() + lead_s

    barrier = threading.Barrier(workers, action=begin)

    def life(number: int) -> None:
        crew[number].warm_up((number - workers) * each, each)
        barrier.wait()
        work(crew[number], stage)

    if workers == 1:
        with still_memory():
            life(0)
        return _gather(crew, stage.beginning, time.process_time() - stage.cpu_s)
    with still_memory(), ThreadPoolExecutor(workers, thread_name_prefix="load") as pool:
        futures = [pool.submit(life, number) for number in range(workers)]
        try:
            for future in futures:
                future.result()
        except BaseException:  # Ctrl-C above all: let no thread go on sending
            stage.called_off.set()
            barrier.abort()
            raise
    return _gather(crew, stage.beginning, time.process_time() - stage.cpu_s)


def _gather(crew: list[_Worker], beginning: float, cpu_s: float) -> LoadResult:
    answered = sorted((row for worker in crew for row in worker.answered), key=lambda row: row[1])
    table = np.array(answered, dtype=np.float64).reshape(-1, 4)
    errors: Counter[str] = sum((worker.errors for worker in crew), Counter())
    return LoadResult(
        index=table[:, 0].astype(np.int64),
        intended_s=table[:, 1] - beginning,
        started_s=table[:, 2] - beginning,
        finished_s=table[:, 3] - beginning,
        lag_s=np.array([lag for worker in crew for lag in worker.lags], dtype=np.float64),
        errors=errors.total(),
        error_messages=tuple(message for message, _ in errors.most_common(_MESSAGES)),
        late=sum(worker.late for worker in crew),
        dropped=sum(worker.dropped for worker in crew),
        duration_s=max(max(worker.last for worker in crew) - beginning, 0.0),
        cpu_s=cpu_s,
    )


@contextmanager
def still_memory() -> Iterator[None]:
    """Keep the collector from walking prepared requests: its pauses would be ours in the tail.

    Within another the memory stays still until the outer one ends: with torch loaded, to walk all
    of it takes a fifth of a second, too long for each of many short rounds.
    """
    within = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not within:
            gc.unfreeze()
