"""How far a long command has come: a bar on a terminal, plain lines elsewhere.

The bar is drawn when the command says what comes next, that is between timed runs, and never beside
one: a display that refreshes itself would take its core and be in its tail.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.printing import say_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console


@contextmanager
def progress(
    *, steps: int | None = None, budget_s: float | None = None, console: Console | None = None
) -> Iterator[Callable[[str], None]]:
    """Give a function that is told of each step before it begins.

    Args:
        steps: How many there will be; or
        budget_s: about how long all of them take; with neither, no end is known.
        console: Where to; standard error by default.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield say_line
        return
    columns = (
        BarColumn(bar_width=24), TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(), TextColumn("left:"), Remaining(),
    )  # fmt: skip
    shown = Progress(
        *(columns if steps != 1 else columns[1:3]),
        console=console,
        auto_refresh=False,  # no thread of its own
        transient=True,
        redirect_stdout=False,  # standard output is the results'
    )
    began, said = time.monotonic(), 0
    task = shown.add_task("", total=budget_s if steps is None else steps)

    def say(line: str) -> None:
        nonlocal said
        done = said if steps is not None else time.monotonic() - began
        shown.update(task, description=line, completed=done, refresh=True)
        said += 1

    with shown:
        yield say
