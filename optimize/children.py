"""Child processes with limits: a conversion that crashes, hangs or eats memory hurts only itself.

A child is ``python -m optimize …``, a command that a person could type, so the command line is the
script that reproduces its error. It prints one JSON object; what else it says goes to a log. It may
be forked from a process that has imported what it needs (`optimize.warm`), which does not show.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rankers.errors import UserError
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from optimize.warm import ForkedChild, Warm

    Child: TypeAlias = subprocess.Popen[bytes] | ForkedChild

_PARENT = "RANKSERVE_PARENT"
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use.

    Attributes:
        seconds: Wall-clock time.
        memory_bytes: Resident memory of the child and its own children together.
    """

    seconds: float
    memory_bytes: int


def default_limits() -> Limits:
    """Half an hour, and nine tenths of the machine's memory."""
    import psutil

    return Limits(seconds=1800, memory_bytes=int(psutil.virtual_memory().total * 0.9))


def run_child(
    arguments: Sequence[str], *, logs: Path, limits: Limits, warm: Warm | None = None
) -> dict[str, Any]:
    """Run ``python -m optimize ARGUMENTS`` and return the JSON object that it prints.

    Args:
        arguments: The command and its options.
        logs: A folder for ``log.txt`` and ``reproduce.sh``.
        limits: Time and memory. What a forked child shares with others counts as its memory too.
        warm: Forks the child, if it can; by default the child is a fresh process.

    Raises:
        UserError: The child ended with an error (its own words), crashed, or passed a limit; the
            message names the log.
    """
    command = [sys.executable, "-m", "optimize", *arguments]
    logs.mkdir(parents=True, exist_ok=True)
    write_atomically(
        logs / "reproduce.sh",
        f"#!/bin/sh\ncd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(command)}\n",
    )
    log = logs / "log.txt"
    with log.open("wb") as errors, (logs / "output.json").open("w+b") as output:
        forked = warm.fork(arguments, output, errors) if warm else None
        process: Child = forked or _start(command, output, errors)
        try:
            _wait(process, limits, arguments[0], log)
        finally:
            code = _kill_group(process)
        if code != 0:
            raise UserError(_describe_failure(code, arguments[0], log))
        output.seek(0)
        # What comes after the object is not the command's: a thread of a user's module may print.
        result: dict[str, Any]
        result, _ = json.JSONDecoder().raw_decode(output.read().decode())
    (logs / "output.json").unlink()
    return result


def _start(command: list[str], output: BinaryIO, errors: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,  # its own group, so that its children end with it
        env=os.environ | {_PARENT: str(os.getpid())},
    )


def die_with_parent() -> None:
    """In a child of `run_child`: end when the parent ends, however it does."""
    parent = os.environ.pop(_PARENT, None)
    if parent is not None:
        die_with(parent=int(parent))


def die_with(*, parent: int) -> None:
    """End when the process that started this one ends, if that is ``parent`` still."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)


def _wait(process: Child, limits: Limits, what: str, log: Path) -> None:
    """Wait for the child, looking at its time and memory."""
    deadline = time.monotonic() + limits.seconds
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            pass
        else:
            return
        used = _resident_bytes(process.pid)
        if used > limits.memory_bytes:
            raise UserError(
                f"{what} used {used / 2**30:.1f} GiB of memory; its limit is "
                f"{limits.memory_bytes / 2**30:.1f} GiB: raise --memory-limit, or see {log}"
            )
        if time.monotonic() > deadline:
            raise UserError(
                f"{what} ran longer than its limit of {limits.seconds:g} s: raise --time-limit, "
                f"or see {log}"
            )


def _resident_bytes(pid: int) -> int:
    import psutil

    total = 0
    with suppress(psutil.Error):  # one of them has just ended
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    return total


def _kill_group(process: Child) -> int:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _describe_failure(code: int, what: str, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    said = [line for line in lines if line.startswith("error: ")]
    if code > 0 and said:
        return said[-1].removeprefix("error: ")
    if code < 0:
        return f"{what} crashed with {signal.Signals(-code).name}: see {log} and reproduce.sh there"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{what} failed: {last}: see {log} and reproduce.sh there"
