"""Regions of POSIX shared memory that a client writes requests into and a server reads them from.

A region's name says whose it is: the namespace of process numbers, the process and when it began,
and 64 random bits. So whoever comes later can tell regions of processes that are gone, whose files
a kill left behind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rankers.requests import Array

FOLDER = Path("/dev/shm")  # noqa: S108 - where `shm_open` makes them on Linux
_NAME = re.compile(r"rankserve-(\d{1,20})-(\d{1,20})-(\d{1,20})-[0-9a-f]{16}")
_ALIGNMENT = 64


class Owner(NamedTuple):
    """A process: the namespace of its number, the number, and when it started, in clock ticks."""

    namespace: int
    process: int
    began: int


def this_process() -> Owner:
    """Return this one. Raises `OSError` where there is no Linux to tell."""
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    return Owner(namespace, os.getpid(), _began("self"))


def _began(process: int | str) -> int:
    # The command's name, which may hold anything, ends with the last parenthesis.
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])


def abandoned(names: Iterable[str]) -> Iterator[str]:
    """Give those of the names that are regions of processes that are gone."""
    here = this_process().namespace
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        owner = Owner(*map(int, match.groups()))
        if owner.namespace != here:
            continue  # its process cannot be seen from here
        try:
            gone = _began(owner.process) != owner.began
        except FileNotFoundError:
            gone = True
        except (OSError, ValueError, IndexError):
            continue
        if gone:
            yield name


def sweep() -> list[str]:
    """Remove the files of regions whose processes are gone; return their names."""
    swept = []
    for name in abandoned([each.name for each in FOLDER.iterdir()]):
        with contextlib.suppress(OSError):  # another client was quicker, or they are another's
            (FOLDER / name).unlink()
            swept.append(name)
    return swept


class Region:
    """One region of this process.

    Args:
        size: Bytes.

    Raises:
        OSError: There is no such memory, or not enough.
    """

    def __init__(self, size: int) -> None:
        owner = "-".join(map(str, this_process()))
        self.name, self.size = f"rankserve-{owner}-{secrets.token_hex(8)}", size
        self._path = FOLDER / self.name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        file = os.open(self._path, flags, 0o600)
        try:
            # Else a write to memory that is not there would kill the process.
            os.posix_fallocate(file, 0, size)
            self._memory = mmap.mmap(file, size)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(file)
        self._bytes = np.frombuffer(self._memory, np.uint8)

    def write(self, arrays: Iterable[Array]) -> list[int]:
        """Write arrays one after the other; return where each begins."""
        places, at = [], 0
        for each in arrays:
            places.append(at)
            self._bytes[at : at + each.nbytes] = each.reshape(-1).view(np.uint8)
            at += -(-each.nbytes // _ALIGNMENT) * _ALIGNMENT
        return places

    def close(self) -> None:
        """Remove it. A server that has it mapped keeps its memory until it unregisters it."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def room(sizes: Iterable[int]) -> int:
    """Return how large a region has to be for arrays of these sizes."""
    return sum(-(-each // _ALIGNMENT) * _ALIGNMENT for each in sizes)
