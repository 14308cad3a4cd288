"""What a rewrite is worth: the ratio of what is slower without it."""

from __future__ import annotations

import json
from pathlib import Path

from bench.validation.rewrite_worth import ALL, FLAT, RANKERS, measure

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


def test_each_form_is_called_as_often_in_drawn_order():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in (ALL, FLAT, "without dots")}
    found = measure(calls, rounds=3)
    assert [each["form"] for each in found] == list(calls)
    assert all(each["calls"] == 15 for each in found)
    assert all(called.count(name) == 20 for name in calls)  # a round of each warms up
    assert found[0]["ratio"] == 1
    rounds = [called[start : start + 15 : 5] for start in range(0, len(called), 15)]
    assert len(set(map(tuple, rounds))) > 1


def test_of_every_ranker_there_is_a_committed_measurement_of_every_form():
    rankers = json.loads((RESULTS / "rewrite-worth.json").read_text())["rankers"]
    assert tuple(rankers) == RANKERS
    for forms in rankers.values():
        assert [each["form"] for each in forms[:2]] == [FLAT, ALL]
        assert len(forms) > 3
