"""How far training has come, on standard error."""

from __future__ import annotations

import sys
import time
from typing import Self


class Progress:
    """A bar with loss and time left on a terminal; elsewhere a line now and then."""

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(file=sys.stderr)
        self.steps, self.done, self.said = steps, 0, time.monotonic()
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps, loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("training", total=steps, loss=0.0)
        self.loss = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def resume(self, done: int) -> None:
        """Count the steps that an earlier attempt did."""
        self.done = done
        self.bar.update(self.task, completed=done)
        print(f"training: goes on at step {done} of {self.steps}", file=sys.stderr)  # noqa: T201

    def advance(self, loss: float) -> None:
        """Count one step."""
        self.done += 1
        self.loss = loss if self.done == 1 else 0.95 * self.loss + 0.05 * loss
        self.bar.update(self.task, completed=self.done, loss=self.loss)
        if not self.console.is_terminal and time.monotonic() - self.said > 10:
            self.said = time.monotonic()
            print(  # noqa: T201 - progress belongs on standard error
                f"training: step {self.done} of {self.steps}, loss {self.loss:.4f}",
                file=sys.stderr,
                flush=True,
            )
