"""A stall, by a clock that does not depend on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bench.validation.coordinated_omission import RATE_PER_S, REQUESTS, STALL_S, stalled_runs

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


def test_a_stall_shows_in_everyone_who_came_meanwhile_and_only_in_the_open_loop():
    opened, sent, closed = stalled_runs(seed=3).values()
    came = RATE_PER_S * STALL_S
    # Who comes in the last 0.1 s of it waits less than that.
    assert abs(opened["slow"] - 0.9 * came) < 4 * np.sqrt(came)
    # On average they wait for half of the stall.
    assert 0.4 * came * STALL_S < opened["waited_in_all_s"] < 0.65 * came * STALL_S
    assert opened["points_us"]["p99"] > 0.2 * STALL_S * 1e6
    assert opened["max_us"] > 0.9 * STALL_S * 1e6
    for blind in (sent, closed):
        assert blind["slow"] == 1
        assert blind["points_us"]["p99.9"] < 2_000


def test_the_committed_figures_are_those_of_its_command():
    result = json.loads((RESULTS / "coordinated-omission.json").read_text())
    assert result["requests"] == REQUESTS
    assert result["runs"] == stalled_runs(seed=0)
