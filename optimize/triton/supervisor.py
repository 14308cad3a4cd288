"""The parent of an embedded server: whatever ends its owner, nothing of the server is left.

Run as ``python supervisor.py GRACE_S SHM_PREFIX COMMAND…`` with a pipe as its standard input. It
starts the command and stops it when the pipe closes, which happens when the owner closes it and
also when the owner is killed. It stands alone, so that starting it imports nothing.

A death signal of the server's own (PR_SET_PDEATHSIG) would not do: it fires when the *thread* that
started the process ends, and a killed server could not remove its shared memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(grace_s: float, shm_prefix: str, command: list[str]) -> int:
    """Run the command until it ends or standard input does; return its exit code."""
    # A terminal's Ctrl-C and hang-up are for the owner, whose end we notice by the pipe.
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    # Orphaned stubs become our children, so that none outlives us unseen.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def die_with_supervisor() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
        preexec_fn=die_with_supervisor,  # noqa: PLW1509 - this process has one thread
    )
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: os.close(0))
    try:
        _wait_for_either(server)
        if server.poll() is None:
            server.terminate()
        server.wait(grace_s)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"the server did not stop within {grace_s} s: killed\n")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        code = server.wait()
        for region in Path("/dev/shm").glob(f"{shm_prefix}*"):  # noqa: S108 - where shm_open puts it
            region.unlink(missing_ok=True)
    return code if code >= 0 else 128 - code


def _wait_for_either(server: subprocess.Popen[bytes]) -> None:
    """Return when the server ended or standard input was closed."""
    ended = os.pidfd_open(server.pid)
    try:
        ready, _, _ = select.select([ended, 0], [], [])
        while ended not in ready and os.read(0, 4096):
            ready, _, _ = select.select([ended, 0], [], [])
    except (OSError, ValueError):
        return  # SIGTERM closed standard input.
    finally:
        os.close(ended)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
