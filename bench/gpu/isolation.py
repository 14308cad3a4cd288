"""Cells in child processes: one that crashes, hangs or runs out of memory ends alone.

A child works through cells in order and writes a line of JSON before, during and after each. The
parent reads along: where a child ends early or stands still, it says so of the cell under way and
starts another child with the cells that are left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be used.

    Attributes:
        until: When everything has to be over, by `time.monotonic`.
        cell_s: How long one cell may take, building it included.
    """

    until: float
    cell_s: float


Event = dict[str, Any]


def run_cells(
    names: Sequence[str],
    command: Callable[[Sequence[str]], list[str]],
    budget: Budget,
    told: Callable[[Event], None],
    *,
    events: Path,
    log: Path,
) -> None:
    """Run cells in children until all have ended, or the time is over.

    Args:
        names: Of the cells, in order.
        command: Makes the command of a child for some of them. It appends to ``events`` lines with
            ``cell`` and ``event``: ``started``, ``rows`` (any number of times), then ``ended``.
        budget: Time.
        told: Gets every event of children, and ``ended`` with a ``status`` and ``why`` of each cell
            that did not end by itself: ``crashed``, ``timeout`` or ``not run``.
        events: The file that children append to.
        log: What children print.
    """
    left = list(names)
    while left and time.monotonic() < budget.until:
        left = _one_child(left, command(left), budget, told, events=events, log=log)
    for name in left:
        told(_ended(name, "not run", "the time was over"))


def _one_child(
    left: list[str],
    command: list[str],
    budget: Budget,
    told: Callable[[Event], None],
    *,
    events: Path,
    log: Path,
) -> list[str]:
    """Run one child; return the cells that are left after it."""
    events.write_text("")
    left = list(left)
    under_way: str | None = None
    began = time.monotonic()
    with log.open("ab") as output, events.open() as lines:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while True:
                ended = process.poll() is not None  # before reading: what it wrote last is read
                for event in _read(lines):
                    told(event)
                    began = time.monotonic()
                    if event["event"] == "started":
                        under_way = event["cell"]
                    elif event["event"] == "ended":
                        under_way = None
                        left.remove(event["cell"])
                now = time.monotonic()
                if ended:
                    return _after_end(left, under_way, process.returncode, told)
                if now > budget.until or now - began > budget.cell_s:
                    return _after_timeout(left, under_way, budget, told, over=now > budget.until)
                time.sleep(_POLL_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _after_end(
    left: list[str], under_way: str | None, code: int, told: Callable[[Event], None]
) -> list[str]:
    if not left:
        return []
    # A child that starts no cell at all would not start the next one either, but one is given up
    # each time, so that this comes to an end.
    name = under_way or left[0]
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    told(_ended(name, "crashed", f"its process ended with {how}"))
    return [each for each in left if each != name]


def _after_timeout(
    left: list[str],
    under_way: str | None,
    budget: Budget,
    told: Callable[[Event], None],
    *,
    over: bool,
) -> list[str]:
    if over and under_way is None:
        return left
    name = under_way or left[0]
    why = "the time was over" if over else f"nothing happened for {budget.cell_s:g} s"
    told(_ended(name, "timeout", why))
    return [each for each in left if each != name]


def _ended(name: str, status: str, why: str) -> Event:
    return {"cell": name, "event": "ended", "status": status, "why": why}


def _read(lines: Any) -> list[Event]:
    """Return the whole lines that came since; a line that is still being written comes later."""
    found: list[Event] = []
    while True:
        place = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(place)
            return found
        found.append(json.loads(line))
