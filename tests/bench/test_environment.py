"""What is recorded of the machine."""

from __future__ import annotations

import json
import os
import socket

import pytest

from bench.environment import CpuTimes, Environment, cpu_times, environment


def test_survives_json():
    found = environment()
    assert Environment.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_names_the_libraries_and_the_cores():
    found = environment()
    assert {"numpy", "onnxruntime", "torch"} <= set(found.versions)
    assert found.usable_cores == len(os.sched_getaffinity(0))
    assert found.memory_bytes > 2**28


def test_never_holds_the_hosts_name(monkeypatch):
    assert socket.gethostname() not in json.dumps(environment().to_json()).split('"')


def test_the_fingerprint_is_stable():
    first = environment()
    environment.cache_clear()
    assert environment().machine == first.machine


def test_cpu_times_only_grow():
    before, after = cpu_times(), cpu_times()
    if before is None:
        pytest.skip("this kernel has no /proc/stat")
    assert after.total >= before.total > 0


def test_the_steal_share_is_of_the_time_that_passed():
    assert CpuTimes(1000, 100).steal_share(CpuTimes(1200, 150)) == 0.25
    assert CpuTimes(1000, 100).steal_share(CpuTimes(1000, 100)) is None
