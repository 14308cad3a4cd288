"""What nvidia-smi says of GPUs while they are measured."""

from __future__ import annotations

import os
import time

import pytest

from bench.gpu_state import merge_states, read_states, watched_gpus

# Lines of two GPUs, twice: one runs into its power limit at the end, the other does not tell its
# power.
SAID = """\
0, 1410, 61, 310.25, Not Active, Not Active, Not Active, Not Active, Not Active
1, 1980, 40, [N/A], Not Active, Not Active, Not Active, Not Active, Not Active
0, 1305, 64, 400.00, Not Active, Not Active, Not Active, Not Active, Active
1, 1980, 41, [N/A], Not Active, Not Active, Not Active, Not Active, Not Active
"""


def test_clocks_heat_and_power_are_least_and_most_and_reasons_are_counted():
    first, second = read_states(SAID)
    assert first == {
        "index": 0,
        "seen": 2,
        "slowed": {"power limit": 1},
        "sm_mhz": [1305.0, 1410.0],
        "celsius": [61.0, 64.0],
        "watts": [310.25, 400.0],
    }
    assert second["slowed"] == {}
    assert "watts" not in second


@pytest.mark.parametrize(
    "said", ["", "No devices were found\n", "0, 1410, 61\n", "Failed to initialize NVML: x, y\n"]
)
def test_what_is_no_state_is_left_out(said):
    assert read_states(said) == ()


def test_a_line_cut_short_by_the_end_of_the_run_is_left_out():
    assert read_states(SAID[:-40]) == read_states("".join(SAID.splitlines(keepends=True)[:3]))


def test_rounds_are_joined_by_gpu():
    parts = [read_states(each) for each in SAID.splitlines()]
    assert merge_states(parts) == read_states(SAID)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of that name first on the path, which says the lines above again and again."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\necho $* > {tmp_path}/asked\n"
        f"while true; do cat <<'END'\n{SAID}END\nsleep 0.1; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_gpus_are_watched_while_a_target_on_one_is_measured(nvidia_smi):
    with watched_gpus("cuda:0") as watch:
        until = time.monotonic() + 30
        while not (nvidia_smi / "asked").exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.2)
    assert [each["index"] for each in watch.states] == [0, 1]
    assert watch.states[0]["seen"] >= 2
    assert "clocks_throttle_reasons.sw_power_cap" in (nvidia_smi / "asked").read_text()


def test_a_target_on_the_cpu_asks_nobody(nvidia_smi):
    with watched_gpus("cpu") as watch:
        pass
    assert watch.states == ()
    assert not (nvidia_smi / "asked").exists()


def test_a_machine_without_nvidia_smi_has_no_states(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with watched_gpus("cuda") as watch:
        pass
    assert watch.states == ()
