"""The generator's own limits."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from bench.cli import main
from bench.environment import Environment
from bench.limits import OPEN_RATE_PER_S

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "validation"


def test_are_measured_and_written(tmp_path):
    out = tmp_path / "limits.json"
    done = CliRunner().invoke(main, ["limits", "--seconds", "0.3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found["kind"] == "rankserve-limits"
    closed, opened, lag = found["grpc_closed"], found["grpc_open"], found["lag"]
    assert found["in_process_per_s"] > closed["per_s"] > 0
    assert opened["asked_per_s"] == OPEN_RATE_PER_S
    # This process and the server spend at most as much CPU time as passes on all cores.
    cores = Environment.from_json(found["environment"]).usable_cores
    for each in (closed, opened):
        assert each["per_core_s"] * each["cores"] > 0.9 * each["per_s"]
        assert 0 < each["cores"] < 1.1 * cores
    assert lag["p99_us"] >= lag["p50_us"] >= 0
    assert lag["added_p99_us"] >= lag["p50_us"]
    if lag["own_p99_us"] is not None:
        assert 0 <= lag["held_up_share"] <= 1
        assert lag["own_p99_us"] >= 0
    assert "requests/s" in done.stdout
    assert "added to a 1 ms p99" in done.stdout
    assert found["scheduler"].startswith("SCHED_")


def test_the_committed_limits_are_those_that_are_promised():
    found = json.loads((RESULTS / "limits.json").read_text())
    assert found["in_process_per_s"] >= 20_000
    assert found["grpc_closed"]["per_core_s"] >= 2_500
    opened = found["grpc_open"]
    assert opened["per_s"] >= 0.97 * OPEN_RATE_PER_S
    assert opened["late_share"] < 0.01
    assert opened["cores"] < 1
    assert found["lag"]["own_added_p99_us"] < 100
    assert found["lag"]["added_p99_us"] < 100
