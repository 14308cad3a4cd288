"""The alarm of a greenlet, in a process of its own: gevent changes the one it is imported in."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, time
import gevent
from bench.alarm import Alarm

alarm = Alarm()
if "without" in sys.argv:
    alarm.close()
ticks = 0

def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.01)

ticking = gevent.spawn(tick)
for _ in range(5):
    due = time.perf_counter() + 0.05
    alarm.sleep_until(due)
    assert time.perf_counter() >= due
past = time.perf_counter()
alarm.sleep_until(past - 1)
print("ticks", ticks)
alarm.close()
alarm.close()
"""


@pytest.mark.parametrize("how", ["with timers", "without"])
def test_wakes_when_due_and_lets_others_run_meanwhile(how):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *how.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) >= 5
