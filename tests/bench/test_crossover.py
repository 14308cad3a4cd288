from __future__ import annotations

import json
import time

import numpy as np
import pytest

from bench.crossover import crossover_table, find_crossover
from bench.measure import Load
from bench.targets import CallableTarget
from bench.workload import draw_workload
from rankers.requests import RequestBatch


def target(name, fixed_ms, each_ms):
    """Make a target with a fixed cost and one for each candidate."""

    def score(request):
        time.sleep((fixed_ms + each_ms * request.candidates) / 1e3)
        return np.zeros(request.candidates)

    return CallableTarget(name, score)


@pytest.fixture(scope="module")
def found():
    log = RequestBatch(
        user={"age": np.zeros(3, dtype=np.float32)},
        items={"price": np.zeros((30, 2), dtype=np.float32)},
        offsets=np.arange(4) * 10,
    )
    return find_crossover(
        [target("light", 0.5, 0.5), target("strong", 6.0, 0.05)],
        lambda count: draw_workload(log, candidates=count, seed=0),
        Load(count=60, warmup=2),
        candidates=[1, 40],
        rates_per_s=[None, 20.0],
        rounds=10,
    )


def test_each_wins_where_it_is_fastest(found):
    winners = {(each.candidates, each.rate_per_s): each.winner(0.5) for each in found.cells}
    for rate in (None, 20.0):
        assert winners[1, rate].fastest == "light"
        assert winners[40, rate].fastest == "strong"
        assert winners[1, rate].sure
        assert winners[40, rate].sure


def test_a_sentence_says_where_the_winner_changes(found):
    assert "closed loop, p50: light wins at N = 1; strong wins at N = 40" in found.texts
    assert "20/s, p50: light wins at N = 1; strong wins at N = 40" in found.texts


def test_the_table_has_a_row_for_each_cell(found):
    table = crossover_table(found)
    assert [row[0] for row in table.rows] == [
        "closed loop, N = 1", "closed loop, N = 40", "20/s, N = 1", "20/s, N = 40",
    ]  # fmt: skip
    assert table.rows[0][-2].startswith("light (")
    assert table.rows[0][-1] == "-"  # 60 requests are too few for a p99


def test_it_is_json(found):
    data = json.loads(json.dumps(found.to_json()))
    assert [each["candidates"] for each in data["cells"]] == [1, 40, 1, 40]
    assert data["cells"][0]["winners"][0]["sure"] is True
