"""Counts and popularity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from bench.distributions import Zipf, read_counts
from rankers.errors import UserError


def drawn(**settings):
    return read_counts(settings).draw(20_000, np.random.default_rng(5))


def test_a_fixed_count_is_always_the_same():
    assert set(drawn(kind="fixed", count=7)) == {7}


def test_uniform_counts_reach_both_ends_as_often():
    found = drawn(kind="uniform", min=3, max=6)
    assert chisquare(np.bincount(found)[3:]).pvalue > 0.001


def test_histogram_counts_come_as_often_as_their_weights():
    found = drawn(kind="histogram", counts=[10, 100], weights=[3, 1])
    assert (found == 10).mean() == pytest.approx(0.75, abs=0.02)
    assert set(found) == {10, 100}


def test_lognormal_counts_have_their_median_and_spread():
    found = drawn(kind="lognormal", median=300, sigma=0.5)
    assert np.median(found) == pytest.approx(300, rel=0.02)
    assert np.log(found).std() == pytest.approx(0.5, rel=0.03)


def test_lognormal_counts_beyond_the_limits_are_drawn_again_and_do_not_pile_up_there():
    found = drawn(kind="lognormal", median=200, sigma=1.0, min=100, max=700)
    assert (found.min(), found.max()) == (100, 700)
    assert (found == 700).mean() < 0.01


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "fixt"}, "did you mean 'fixed'"),
        ({}, "unknown kind None"),
        ({"kind": "fixed"}, "needs numbers for count"),
        ({"kind": "fixed", "count": 0}, "from 1 to 100,000"),
        ({"kind": "fixed", "count": 2.5}, "whole numbers"),
        ({"kind": "uniform", "min": 5, "max": 4}, "smaller first"),
        ({"kind": "uniform", "min": 5, "maxx": 9}, "did you mean 'max'"),
        ({"kind": "lognormal", "median": 5, "sigma": -1}, "sigma is 0 or more"),
        ({"kind": "lognormal", "median": 5, "sigma": 1, "max": 4}, "median lies"),
        ({"kind": "lognormal", "median": "5", "sigma": 1}, "needs numbers"),
        ({"kind": "histogram", "counts": [1], "weights": []}, "a weight for each"),
        ({"kind": "histogram", "counts": [1], "weights": [0]}, "some above 0"),
    ],
)
def test_a_mistake_is_named(settings, said):
    with pytest.raises(UserError, match=said):
        read_counts(settings)


class TestZipf:
    def test_ranks_come_in_proportion_to_their_popularity(self):
        zipf = Zipf(50, 1.1)
        found = np.bincount(zipf.draw(50_000, np.random.default_rng(1)), minlength=50)
        expected = np.arange(1, 51) ** -1.1
        assert chisquare(found, expected / expected.sum() * 50_000).pvalue > 0.001

    def test_of_exponent_zero_makes_all_alike(self):
        found = np.bincount(Zipf(20, 0.0).draw(20_000, np.random.default_rng(1)), minlength=20)
        assert chisquare(found).pvalue > 0.001

    @pytest.mark.parametrize(("size", "count"), [(1000, 200), (1000, 900), (100_000, 500)])
    def test_distinct_ranks_are_distinct_and_prefer_the_popular(self, size, count):
        found = Zipf(size, 1.2).draw_distinct(count, np.random.default_rng(2))
        assert len(set(found.tolist())) == count
        assert np.median(found) < size / 2
        assert 0 in found

    def test_distinct_ranks_of_a_small_share_are_drawn_as_one_after_another(self):
        # The first two of many draws, by either way: the same chance of holding rank 0.
        random, zipf = np.random.default_rng(3), Zipf(12, 1.0)
        held = np.mean([0 in zipf.draw_distinct(2, random) for _ in range(4000)])
        p = zipf._chances
        exact = p[0] + sum(p[i] * p[0] / (1 - p[i]) for i in range(1, 12))
        assert held == pytest.approx(exact, abs=0.03)
