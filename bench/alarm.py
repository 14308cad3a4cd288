"""An alarm for greenlets: gevent's own timer wakes them up to 1 ms late.

Polling the last millisecond would take a core from the very server that is measured. Linux has
timers that are files (``timerfd``): one that is due can be read, and a greenlet waits for that as
for a socket, to some 50 µs.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import gevent
from gevent.socket import wait_read

_CLOCK_MONOTONIC = 1  # that of time.perf_counter on Linux
_ABSOLUTE = 1
_NONBLOCK, _CLOSE_ON_EXEC = os.O_NONBLOCK, os.O_CLOEXEC
# The last stretch is polled, letting others run, so that a request is sent from a process that is
# awake; where there are no such timers a longer one.
_POLLED_S, _POLLED_WITHOUT_S = 0.000_2, 0.001_5


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Alarm:
    """Wakes one greenlet at moments of ``time.perf_counter``."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(None)
        self._file = -1
        if hasattr(self._library, "timerfd_create"):
            self._file = self._library.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK | _CLOSE_ON_EXEC)

    def sleep_until(self, moment: float) -> None:
        """Let others run until then."""
        if self._file < 0:
            while (left := moment - time.perf_counter()) > _POLLED_WITHOUT_S:
                gevent.sleep(left - _POLLED_WITHOUT_S)
        else:
            self._wait_for_timer(moment - _POLLED_S)
        while time.perf_counter() < moment:
            gevent.sleep(0)

    def _wait_for_timer(self, moment: float) -> None:
        seconds = int(moment)
        timer = _Timer(_Time(0, 0), _Time(seconds, int((moment - seconds) * 1e9)))
        while time.perf_counter() < moment:
            self._library.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(timer), None)
            wait_read(self._file)

    def close(self) -> None:
        """Give the timer back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
