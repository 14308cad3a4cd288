"""Several generator processes, where one core cannot send fast enough.

Each process opens the target anew and takes its share: of the rate, or of the concurrency. Poisson
streams of a share each add up to one of the whole rate. Latencies are joined as histograms.
"""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.gpu_state import merge_states
from bench.latencies import merge
from bench.measure import measure
from bench.measurement import Measurement
from bench.merging import total_of
from bench.timeline import overlay
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from bench.measure import Load
    from bench.targets import Target
    from bench.workload import Workload

_PATIENCE_S = 120.0


def measure_in_processes(
    open_subject: Callable[[], Target],
    workload: Workload,
    load: Load,
    *,
    processes: int,
    command: str = "",
) -> Measurement:
    """Measure a target with several processes at once.

    Args:
        open_subject: Opens the target, in each process: a function or a `functools.partial` that
            can be pickled.
        workload: Sent by all of them.
        load: Of all together.
        processes: How many.
        command: What reproduces the measurement.

    Raises:
        UserError: The load cannot be shared, or a process failed; the message is its own.
    """
    shares = share(load, processes)
    # Not forked: gRPC does not outlive a fork, and threads are running.
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(processes)
    pipes, children = [], []
    try:
        for part in shares:
            ours, theirs = context.Pipe(duplex=False)
            child = context.Process(
                target=_generate,
                args=(
                    open_subject,
                    partial(measure, workload=workload, load=part, command=command),
                ),
                kwargs={"begin": begin, "answer": theirs},
                daemon=True,  # none goes on sending when this process is gone
            )
            child.start()
            theirs.close()
            pipes.append(ours)
            children.append(child)
        parts = _receive(pipes)
    finally:
        for child in children:
            child.terminate()
            child.join()
    return join(parts, load)


def share(load: Load, processes: int) -> list[Load]:
    """Cut a load into one for each process.

    Raises:
        UserError: There are more processes than requests to have under way, or the arrivals are not
            a Poisson process, whose parts alone add up to the whole.
    """
    if processes < 1:
        raise UserError(f"{processes} processes were asked for; at least 1 is needed")
    if load.rate_per_s is not None and load.pattern != "poisson":
        raise UserError(f"{load.pattern} arrivals cannot be shared by processes; Poisson ones can")
    if load.rate_per_s is None and load.concurrency < processes:
        raise UserError(
            f"a concurrency of {load.concurrency} cannot be shared by {processes} processes"
        )
    counts = _cut(load.count, processes)
    concurrency = _cut(load.concurrency, processes)
    return [
        replace(
            load,
            count=counts[place] if counts else None,
            concurrency=concurrency[place] if load.rate_per_s is None else load.concurrency,
            rate_per_s=None if load.rate_per_s is None else load.rate_per_s / processes,
            # Far from the seeds of rounds, which count up from the load's own.
            seed=load.seed + 1_000_003 * place,
            # Far from each other in the workload too: two must not send the same rows at once.
            first=load.first + 1_009 * place,
        )
        for place in range(processes)
    ]


def join(parts: list[Measurement], load: Load) -> Measurement:
    """Join what processes measured at the same time, as one measurement of the whole load."""
    first = parts[0]
    messages = dict.fromkeys(message for part in parts for message in part.error_messages)
    return replace(
        first,
        load=load.describe() | {"processes": len(parts)},
        response=merge([part.response for part in parts]),
        service=merge([part.service for part in parts]),
        lag=merge([part.lag for part in parts]),
        counts=sum((part.counts for part in parts[1:]), first.counts),
        error_messages=tuple(messages)[:3],
        # They began together; the last to end is the end.
        duration_s=max(part.duration_s for part in parts),
        cpu_s=total_of([part.cpu_s for part in parts]),
        wire_bytes=total_of([part.wire_bytes for part in parts]),
        unwarmed=sum(part.unwarmed for part in parts),
        clock_drift_s=max(part.clock_drift_s for part in parts),
        gpu=merge_states([part.gpu for part in parts]),
        timeline=overlay([part.timeline for part in parts]),
    )


def _cut(amount: int | None, parts: int) -> list[int]:
    if amount is None:
        return []
    return [amount // parts + (place < amount % parts) for place in range(parts)]


def _generate(
    open_subject: Callable[[], Target],
    work: Callable[[Target], Measurement],
    *,
    begin: Any,
    answer: Connection,
) -> None:
    """Measure a share, in a process of its own; send back the measurement, or what went wrong."""
    try:
        target = open_subject()
        try:
            begin.wait(_PATIENCE_S)
            answer.send(work(target).to_json())
        finally:
            target.close()
    except UserError as error:
        begin.abort()  # the others would wait for this one
        answer.send(str(error))
    except threading.BrokenBarrierError:
        answer.send(_HELD_UP)


def _receive(pipes: list[Connection]) -> list[Measurement]:
    """Return every process's measurement.

    Raises:
        UserError: One failed. What held up the others is not said if its cause is known.
    """
    said = [_answer(pipe) for pipe in pipes]
    failures = sorted((each for each in said if isinstance(each, str)), key=_HELD_UP.__eq__)
    if failures:
        raise UserError(failures[0])
    return [Measurement.from_json(each) for each in said if not isinstance(each, str)]


def _answer(pipe: Connection) -> dict[str, Any] | str:
    try:
        said: dict[str, Any] | str = pipe.recv()
    except EOFError:
        return "a generator process ended without an answer; see above"
    return said


_HELD_UP = "another process could not begin"
