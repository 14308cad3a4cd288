"""A limit is held against an interval's bad end; what lies between is neither passed nor failed."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.gates.holding import hold, more_requests, settle
from rankers.intervals import Interval


def held(low, estimate, high, *, limit=0.01, requests=100, less_is_better=False):
    change = Interval(estimate, low, high)
    return hold("auc", change, limit, requests=requests, less_is_better=less_is_better)


@pytest.mark.parametrize(
    ("low", "estimate", "high", "outcome"),
    [
        (-0.009, -0.004, 0.001, "passed"),
        (-0.011, -0.004, 0.003, "cannot tell"),
        (-0.03, -0.02, -0.009, "cannot tell"),
        (-0.03, -0.02, -0.011, "failed"),
        (0.5, 0.6, 0.7, "passed"),
    ],
)
def test_the_bad_end_passes_the_good_end_fails_and_between_nothing_is_told(
    low, estimate, high, outcome
):
    assert held(low, estimate, high).outcome == outcome
    mirrored = held(-high, -estimate, -low, less_is_better=True)
    assert mirrored.outcome == outcome


def test_the_limit_itself_passes_and_no_change_passes_a_limit_of_none_at_all():
    assert held(-0.01, -0.005, 0).outcome == "passed"
    assert held(0, 0, 0, limit=0, requests=1).outcome == "passed"


def test_an_interval_of_few_requests_proves_nothing():
    passing, failing = (-0.009, -0.004, 0.001), (-0.03, -0.02, -0.011)
    for bounds in (passing, failing):
        found = held(*bounds, requests=19)
        assert found.outcome == "cannot tell"
        assert found.needs >= 1


def test_few_requests_are_enough_where_next_to_nothing_moved():
    assert held(-0.0009, -0.0004, 0.0001, requests=5).outcome == "passed"
    assert held(-0.0011, -0.0004, 0.0001, requests=5).outcome == "cannot tell"


def test_requests_that_have_no_say_do_not_count_as_proof():
    change = Interval(-0.02, -0.03, -0.011)
    found = hold("gauc", change, 0.01, requests=1000, less_is_better=False, telling=10)
    assert (found.outcome, found.needs) == ("cannot tell", 1000)


def test_no_interval_at_all_tells_nothing():
    found = held(-np.inf, -0.001, np.inf)
    assert (found.outcome, found.needs) == ("cannot tell", None)
    assert found.to_json()["low"] is None


@pytest.mark.parametrize(
    ("half_width", "margin", "more"),
    [(0.02, 0.01, 300), (0.01, 0.01, 1), (0.0117, 0.01, 37), (0.5, 0.01, 250_000)],
)
def test_requests_needed_grow_with_the_square_of_the_width(half_width, margin, more):
    assert more_requests(100, half_width, margin) == more


def test_no_number_of_requests_tells_what_lies_at_the_limit():
    assert more_requests(100, 0.01, 0.0) is None
    assert more_requests(100, 1.0, 1e-6) is None


def test_more_requests_of_the_same_kind_do_decide():
    values = np.random.default_rng(0).normal(0, 0.1, 40_000)

    def judged(count):
        half = 1.96 * values[:count].std() / np.sqrt(count)
        return held(-0.004 - half, -0.004, -0.004 + half)

    few = judged(100)
    assert few.outcome == "cannot tell"
    assert judged(100 + few.needs // 2).outcome == "cannot tell"
    assert judged(100 + 2 * few.needs).outcome == "passed"


class TestSettling:
    PASSED = held(-0.009, -0.004, 0.001)
    UNSURE = held(-0.02, -0.004, 0.012)
    FAILED = held(-0.03, -0.02, -0.011)

    def verdict(self, *each, cannot_tell="block"):
        return settle("quality", each, {}, cannot_tell=cannot_tell, passing="all well")

    def test_all_passed(self):
        found = self.verdict(self.PASSED)
        assert (found.passed, found.outcome, found.reason) == (True, "passed", "all well")

    def test_cannot_tell_blocks_and_says_how_many_requests_would_tell(self):
        found = self.verdict(self.PASSED, self.UNSURE)
        assert (found.passed, found.outcome) == (False, "cannot tell")
        assert found.word == "CANNOT TELL"
        assert found.reason.startswith("needs about 620 more requests: Δauc -0.004 [-0.02, +0.012]")

    def test_cannot_tell_passes_where_the_recipe_says_so_and_stays_what_it_is(self):
        found = self.verdict(self.UNSURE, cannot_tell="pass")
        assert (found.passed, found.outcome) == (True, "cannot tell")
        assert "CANNOT TELL" in found.word

    def test_a_failure_decides_whatever_the_recipe_says_of_too_little_data(self):
        found = self.verdict(self.UNSURE, self.FAILED, cannot_tell="pass")
        assert (found.passed, found.outcome) == (False, "failed")
        assert "worse than the limit 0.01" in found.reason
