"""Measurements of the same, joined: rounds one after the other, as if they had been one run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from bench.gpu_state import merge_states
from bench.latencies import merge
from bench.timeline import follow
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measurement import Measurement

_Number = TypeVar("_Number", int, float)


def merge_measurements(parts: Sequence[Measurement]) -> Measurement:
    """Join rounds of the same target, workload and load on the same machine.

    Raises:
        UserError: There are none, or they do not belong together; the message says in what.
    """
    if not parts:
        raise UserError("there are no measurements to merge")
    first = parts[0]
    for part in parts[1:]:
        for field in ("target", "workload", "load", "environment"):
            if getattr(part, field) != getattr(first, field):
                raise UserError(
                    f"measurements of {first.name!r} and {part.name!r} differ in their {field}: "
                    "they cannot be merged"
                )
    messages = dict.fromkeys(message for part in parts for message in part.error_messages)
    return replace(
        first,
        response=merge([part.response for part in parts]),
        service=merge([part.service for part in parts]),
        lag=merge([part.lag for part in parts]),
        counts=sum((part.counts for part in parts[1:]), first.counts),
        error_messages=tuple(messages)[:3],
        duration_s=sum(part.duration_s for part in parts),
        steal_share=_weighted_steal(parts),
        rounds=_rounds(parts),
        cpu_s=total_of([part.cpu_s for part in parts]),
        wire_bytes=total_of([part.wire_bytes for part in parts]),
        unwarmed=sum(part.unwarmed for part in parts),
        clock_drift_s=max(part.clock_drift_s for part in parts),
        gpu=merge_states([part.gpu for part in parts]),
        timeline=follow([part.timeline for part in parts]),
    )


def total_of(values: Sequence[_Number | None]) -> _Number | None:
    """Return the sum; None where one is not known."""
    known = [each for each in values if each is not None]
    return sum(known[1:], start=known[0]) if known and len(known) == len(values) else None


def _rounds(parts: Sequence[Measurement]) -> tuple[int, ...]:
    counts = [count for part in parts for count in part.rounds or (part.response.count,)]
    return tuple(counts) if len(counts) > 1 else ()


def _weighted_steal(parts: Sequence[Measurement]) -> float | None:
    known = [(part.steal_share, part.duration_s) for part in parts if part.steal_share is not None]
    seconds = sum(duration for _, duration in known)
    return sum(share * duration for share, duration in known) / seconds if seconds else None
