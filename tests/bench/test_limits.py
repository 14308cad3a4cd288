"""The generator's own limits."""

from __future__ import annotations

import json

from click.testing import CliRunner

from bench.cli import main
from bench.environment import Environment


def test_are_measured_and_written(tmp_path):
    out = tmp_path / "limits.json"
    done = CliRunner().invoke(main, ["limits", "--seconds", "0.3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found["kind"] == "rankserve-limits"
    assert found["in_process_per_s"] > found["grpc_per_s"] > 0
    # A call of this process spends at most as much CPU time as passes on all of its cores.
    cores = Environment.from_json(found["environment"]).usable_cores
    assert found["grpc_per_core_s"] >= 0.9 * found["grpc_per_s"] / cores
    assert found["lag_p99_us"] >= found["lag_p50_us"] >= 0
    assert "requests/s" in done.stdout
