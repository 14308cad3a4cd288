"""MLPerf's early-stopping rule."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.early_stopping import judge, most_misses, requests_needed


@pytest.mark.parametrize(
    ("misses", "quantile", "needed"),
    [(0, 0.99, 459), (1, 0.99, 662), (0, 0.999, 4603), (0, 0.9, 44)],
)
def test_the_known_numbers_of_mlperf(misses, quantile, needed):
    assert requests_needed(misses, quantile) == needed
    assert judge(needed, misses, quantile).answer == "holds"
    assert judge(needed - 1, misses, quantile).answer == "undecided"
    assert most_misses(needed, quantile) == misses
    assert most_misses(needed - 1, quantile) == misses - 1


def test_many_misses_mean_that_it_does_not_hold():
    # P(at least 30 of 1,000 at 1 %) is below one in a million; of 10 it is about a half.
    assert judge(1000, 30, 0.99).answer == "does not hold"
    assert judge(1000, 10, 0.99).answer == "undecided"


def test_more_requests_decide_it_when_misses_go_on_at_the_same_share():
    first = judge(1000, 5, 0.99)
    total = 1000 + first.more
    misses = -(-total * 5 // 1000)
    assert judge(total, misses, 0.99).answer == "holds"
    assert first.text("p99 ≤ 10 ms") == (
        f"p99 ≤ 10 ms is undecided: it needs about {first.more:,} more requests"
    )


def test_more_misses_than_allowed_go_on_to_a_no():
    first = judge(1000, 15, 0.99)
    assert first.answer == "undecided"
    total = 1000 + first.more
    assert judge(total, int(total * 0.015), 0.99).answer == "does not hold"


def test_a_target_on_its_bound_cannot_be_decided():
    found = judge(1000, 10, 0.99)
    assert found.more is None
    assert "too close" in found.text("p99 ≤ 10 ms")


def test_nothing_was_looked_at_yet():
    assert judge(0, 0, 0.99).more == 459


def test_a_decided_bound_says_its_confidence():
    assert judge(459, 0, 0.99).text("p99 ≤ 10 ms") == "p99 ≤ 10 ms holds at 99 % confidence"


@settings(deadline=None)  # the first call loads scipy
@given(requests=st.integers(1, 3000), quantile=st.sampled_from([0.5, 0.9, 0.99]), data=st.data())
def test_one_miss_more_never_makes_it_hold(requests, quantile, data):
    misses = data.draw(st.integers(0, requests - 1))
    order = ["does not hold", "undecided", "holds"]
    fewer, more = (order.index(judge(requests, m, quantile).answer) for m in (misses, misses + 1))
    assert more <= fewer


def test_misses_are_part_of_the_requests():
    with pytest.raises(ValueError, match="11 misses of 10"):
        judge(10, 11, 0.99)
