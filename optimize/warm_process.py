"""``python -m optimize.warm_process``: imports once, then forks a child for each request.

What forks must have one thread: a fork copies no other, and what they held stays locked. And CUDA
does not survive a fork. So this process only imports, nothing computes in it, and before each fork
it counts its threads and looks for an open GPU; if it may not fork it ends.

It is asked over a socket of packets: the arguments as a JSON list, with two files for what the
child writes. It answers ``{"pid": …}`` and, when the child has ended, ``{"status": …}``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from optimize.children import die_with

# What costs the stages and gates of torch programs time to import, as far as it starts no thread:
# onnxruntime, openvino and pyarrow, which comes with scikit-learn, do so when they are imported.
_IMPORTS = (
    "optimize.build",  # numpy, and what reads artifacts
    "optimize.gates",
    "torch.export.pt2_archive",  # torch, and what reads and writes programs
    "torch.export._trace",  # what a program that was read imports when it is unpacked
    "onnxscript.function_libs.torch_lib.ops",  # what export_onnx translates operators with
)
PACKET_BYTES = 2**16


def main() -> None:
    """Serve the process that started this one; in a child, run its command as ``-m`` does."""
    die_with(parent=int(sys.argv[1]))
    connection = socket.socket(fileno=int(sys.argv[2]))
    connection.set_inheritable(False)
    for name in _IMPORTS:
        with suppress(ImportError):  # not installed, or elsewhere in this version
            importlib.import_module(name)
    _end_idle_threads()
    gc.collect()
    gc.freeze()  # pages that the collector does not touch stay shared
    sys.argv[1:] = _arguments_of_child(connection)
    runpy.run_module("optimize", run_name="__main__", alter_sys=True)


def _arguments_of_child(connection: socket.socket) -> list[str]:
    """Fork a child for each request, one after the other; return in the child alone."""
    warm = os.getpid()
    while True:
        request, files, _, _ = socket.recv_fds(connection, PACKET_BYTES, 2)
        if not request or not _may_fork():
            sys.exit()
        pid = os.fork()
        if pid == 0:
            connection.close()
            _become_child(warm, *files)
            arguments: list[str] = json.loads(request)
            return arguments
        with suppress(OSError):  # it has ended already
            os.setpgid(pid, pid)  # here as well: it may be ended by its group from now on
        for each in files:
            os.close(each)
        connection.send(json.dumps({"pid": pid}).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode())


def _become_child(warm: int, output: int, errors: int) -> None:
    """Be what a fresh process in its own group would be."""
    import numpy as np
    import torch

    die_with(parent=warm)
    os.setpgid(0, 0)
    for descriptor, place in ((output, 1), (errors, 2)):
        os.dup2(descriptor, place)
        os.close(descriptor)
    # As in fresh processes, no two draw the same. Python's `random` sees to it itself.
    np.random.seed()  # noqa: NPY002 - the shared state is what is meant
    torch.default_generator.seed()


def _end_idle_threads() -> None:
    """End the threads that OpenBLAS starts when numpy is imported, by a fork that does nothing.

    OpenBLAS ends them before every fork and starts them again when it next multiplies, in a child
    as many as ever.
    """
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _may_fork() -> bool:
    """Say whether this process has one thread and no GPU open."""
    for _ in range(100):  # a thread that has just ended is listed for a moment
        if len([*Path("/proc/self/task").iterdir()]) == 1:
            opened = [str(each.resolve()) for each in Path("/proc/self/fd").iterdir()]
            return not any(each.startswith("/dev/nvidia") for each in opened)
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    main()
