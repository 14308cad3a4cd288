"""Arrival schedules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from bench.arrivals import constant, draw, poisson
from rankers.errors import UserError


def test_poisson_gaps_are_exponential_with_the_mean_of_the_rate():
    gaps = np.diff(poisson(50.0, count=5000, seed=1), prepend=0)
    assert kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01


def test_poisson_counts_vary_as_much_as_their_mean():
    schedule = poisson(100.0, count=20_000, seed=2)
    per_second = np.bincount(schedule.astype(int))[:-1]
    assert per_second.var() / per_second.mean() == pytest.approx(1, abs=0.3)


def test_the_same_seed_draws_the_same_moments_and_another_seed_others():
    assert poisson(10, count=50, seed=3).tolist() == poisson(10, count=50, seed=3).tolist()
    assert poisson(10, count=50, seed=3).tolist() != poisson(10, count=50, seed=4).tolist()


def test_constant_arrivals_keep_their_distance():
    assert np.diff(constant(4.0, count=10)).tolist() == [0.25] * 9


@pytest.mark.parametrize("pattern", ["poisson", "constant"])
def test_schedules_have_their_count_and_ascend(pattern):
    schedule = draw(pattern, 1000.0, count=100, seed=0)
    assert len(schedule) == 100
    assert (np.diff(schedule) >= 0).all()


def test_an_unknown_pattern_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'poisson'"):
        draw("poison", 1.0, count=1, seed=0)


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UserError, match="must be above 0"):
        poisson(rate, count=1, seed=0)
