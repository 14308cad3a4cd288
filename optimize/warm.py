"""A warm process: it imports what the stages and gates of torch programs need, and forks theirs.

Most of a small stage's time goes into importing torch and what reads programs and graphs. A
process forked from one that has imported them begins at once, and is otherwise what ``python -m
optimize …`` is: its own group, files, arguments and end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from optimize.warm_process import PACKET_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_ANSWER_S = 120.0  # it answers once it has imported


class Warm:
    """Forks child processes, one at a time, from one warm process, which the first of them starts.

    A context: it ends the warm process. That ends too when this process does, however it does, and
    its child with it.

    Nothing is forked, and the caller starts a fresh process instead, where the platform is not
    Linux, or the environment or the working folder are not those that the imports saw; and from
    then on where the warm process has ended, as it does if it may not fork.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None  # None before its start and after its end
        self._surroundings: tuple[Path, dict[str, str]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The warm process's number; None before its start."""
        return None if self._process is None else self._process.pid

    def fork(
        self, arguments: Sequence[str], output: BinaryIO, errors: BinaryIO
    ) -> ForkedChild | None:
        """Start ``python -m optimize ARGUMENTS`` by a fork; wait for its end before the next.

        Args:
            arguments: The command and its options.
            output: Its standard output.
            errors: Its standard error.

        Returns:
            The child; None if a fresh process must be started instead.
        """
        if self._process is None and sys.platform.startswith("linux"):
            self._start()
        request = json.dumps([*arguments]).encode()
        known = self._surroundings == _surroundings() and len(request) <= PACKET_BYTES
        if self._connection is None or not known:
            return None
        child = None
        try:
            self._connection.settimeout(_ANSWER_S)
            socket.send_fds(self._connection, [request], [output.fileno(), errors.fileno()])
            said = json.loads(self._connection.recv(PACKET_BYTES))
            child = ForkedChild(said["pid"], self._connection)
        except (OSError, ValueError, KeyError):  # it has ended, or does not answer
            pass
        finally:
            if child is None:
                self.close()
        return child

    def close(self) -> None:
        """End the warm process, if there is one, and its child."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._surroundings = _surroundings()
        self._connection, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            numbers = (os.getpid(), its.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "optimize.warm_process", *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )


class ForkedChild:
    """A child of the warm process, to wait for as for a `subprocess.Popen`.

    Attributes:
        pid: Its number, which is also its group's.
        returncode: What it ended with; minus the number of a signal. None while it runs.
    """

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends.

        Raises:
            subprocess.TimeoutExpired: It still runs after ``timeout`` seconds.
        """
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                said = self._connection.recv(PACKET_BYTES)
            except TimeoutError as error:
                raise subprocess.TimeoutExpired("optimize", timeout or 0) from error
            # Nothing is said where the warm process was killed, and the child with it.
            self.returncode = json.loads(said)["status"] if said else -signal.SIGKILL
        return self.returncode


def _surroundings() -> tuple[Path, dict[str, str]]:
    """What libraries may read when they are imported."""
    return Path.cwd(), dict(os.environ)
