from __future__ import annotations

import json

import numpy as np
import pytest

from bench.crossover import crossover_table, find_crossover
from bench.measure import Load
from bench.targets import CallableTarget
from bench.validation.virtual_clock import VirtualClock
from bench.workload import draw_workload
from rankers.requests import RequestBatch


def target(name, clock, fixed_ms, each_ms):
    """Make a target with a fixed cost and one for each candidate, a fifth more or less."""
    random = np.random.default_rng(len(name))

    def score(request):
        usual_ms = fixed_ms + each_ms * request.candidates
        clock.pass_by(usual_ms / 1e3 * random.uniform(0.8, 1.2))
        return np.zeros(request.candidates)

    return CallableTarget(name, score, instances=1)


@pytest.fixture(scope="module")
def found():
    log = RequestBatch(
        user={"age": np.zeros(3, dtype=np.float32)},
        items={"price": np.zeros((30, 2), dtype=np.float32)},
        offsets=np.arange(4) * 10,
    )
    clock = VirtualClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.load.PreciseClock", lambda: clock)
        return find_crossover(
            [target("light", clock, 0.5, 0.5), target("strong", clock, 6.0, 0.05)],
            lambda count: draw_workload(log, candidates=count, seed=0),
            Load(count=48, warmup=2),
            candidates=[1, 40],
            rates_per_s=[None, 40.0],
            rounds=8,
        )


def test_each_wins_where_it_is_fastest(found):
    winners = {(each.candidates, each.rate_per_s): each.winner(0.5) for each in found.cells}
    for rate in (None, 40.0):
        assert winners[1, rate].fastest == "light"
        assert winners[40, rate].fastest == "strong"
        assert winners[1, rate].sure
        assert winners[40, rate].sure


def test_a_sentence_says_where_the_winner_changes(found):
    assert "closed loop, p50: light wins at N = 1; strong wins at N = 40" in found.texts
    assert "40/s, p50: light wins at N = 1; strong wins at N = 40" in found.texts


def test_the_table_has_a_row_for_each_cell(found):
    table = crossover_table(found)
    assert [row[0] for row in table.rows] == [
        "closed loop, N = 1", "closed loop, N = 40", "40/s, N = 1", "40/s, N = 40",
    ]  # fmt: skip
    assert table.rows[0][-2].startswith("light (")
    assert table.rows[0][-1] == "-"  # 48 requests are too few for a p99


def test_it_is_json(found):
    data = json.loads(json.dumps(found.to_json()))
    assert [each["candidates"] for each in data["cells"]] == [1, 40, 1, 40]
    assert data["cells"][0]["winners"][0]["sure"] is True
