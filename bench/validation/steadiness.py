"""Whether a process grows while it does the same again and again: memory, threads, open files."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Held:
    """What the process holds at a moment."""

    rss_mib: float
    threads: int
    files: int

    def to_json(self) -> dict[str, Any]:
        """Return it, JSON-ready."""
        return {"rss_mib": round(self.rss_mib, 2), "threads": self.threads, "files": self.files}


def held() -> Held:
    """Return what this process holds when garbage is gone."""
    gc.collect()
    process = psutil.Process()
    return Held(process.memory_info().rss / _MIB, threading.active_count(), process.num_fds())


def grown(act: Callable[[], None], times: int) -> dict[str, Any]:
    """Act, then act as often again as was warm-up; return what the process grew by.

    Args:
        act: Is called ``times`` times, after ``times // 4`` that count as warm-up.
        times: How often.

    Returns:
        ``rss_mib``, ``threads`` and ``files``: how many more there are at the end than after
        warming up. ``rss_second_half_mib``: the same since the middle.
    """
    for _ in range(max(1, times // 4)):
        act()
    before = held()
    for _ in range(times // 2):
        act()
    middle = held()
    for _ in range(times - times // 2):
        act()
    after = held()
    return {
        "times": times,
        "rss_mib": round(after.rss_mib - before.rss_mib, 2),
        "rss_second_half_mib": round(after.rss_mib - middle.rss_mib, 2),
        "threads": after.threads - before.threads,
        "files": after.files - before.files,
    }


def traced_kib(act: Callable[[], None], times: int) -> float:
    """Return by how much Python's own memory grew over the second half of ``2 * times``, KiB."""
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(2):
            for _ in range(times):
                act()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return round((sizes[1] - sizes[0]) / 1024, 1)
