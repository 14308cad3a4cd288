"""Calls one after the other, and what each took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable


def in_a_row(call: Callable[[], Any]) -> Callable[[int], list[float]]:
    """Return what makes so many calls, and returns what each took, seconds."""

    def make(calls: int) -> list[float]:
        took = []
        for _ in range(calls):
            began = time.perf_counter()
            call()
            took.append(time.perf_counter() - began)
        return took

    return make


def awaited_in_a_row(
    loop: asyncio.AbstractEventLoop, ask: Callable[[], Awaitable[Any]]
) -> Callable[[int], list[float]]:
    """Return the same for what is awaited."""

    async def ask_all(calls: int) -> list[float]:
        took = []
        for _ in range(calls):
            began = time.perf_counter()
            await ask()
            took.append(time.perf_counter() - began)
        return took

    return lambda calls: loop.run_until_complete(ask_all(calls))
