"""Top-k overlap and Kendall's τ of each request, with ties by rounding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau

from rankers.stability import Scores, kendall, mean_and_worst, top_k_overlap, worst_tenth

OFFSETS = np.array([0, 12, 13, 40])


def of(values, rounding=0.0):
    values = np.asarray(values, dtype=np.float64)
    return Scores(values, np.full(len(values), rounding))


def drawn(seed, *, levels=None):
    random = np.random.default_rng(seed)
    return random.random(40) if levels is None else random.integers(0, levels, 40) / levels


class TestKendall:
    @pytest.mark.parametrize("levels", [None, 5])
    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_that_of_scipy_in_each_request_with_ties(self, seed, levels):
        old, new = drawn(seed, levels=levels), drawn(seed + 10, levels=levels)
        found = kendall(of(old), of(new), OFFSETS)
        for request in (0, 2):
            rows = slice(OFFSETS[request], OFFSETS[request + 1])
            expected = kendalltau(old[rows], new[rows], variant="b").statistic
            assert found[request] == pytest.approx(expected, abs=1e-6)
        assert np.isnan(found[1])  # one candidate has no order

    def test_the_reverse_is_minus_one_and_a_constant_ranks_nothing(self):
        old = drawn(0)
        assert kendall(of(old), of(-old), OFFSETS)[0] == pytest.approx(-1)
        assert kendall(of(old), of(np.ones(40)), OFFSETS)[0] == 0
        assert np.isnan(kendall(of(np.ones(40)), of(old), OFFSETS)).all()

    def test_a_swap_within_rounding_is_none_and_beyond_it_is_one(self):
        old = np.arange(40.0)
        old[5] = old[4] + 1e-6
        new = old.copy()
        new[[4, 5]] = old[[5, 4]]
        assert kendall(of(old, 1e-6), of(new, 1e-6), OFFSETS)[0] == pytest.approx(1)
        assert kendall(of(old, 1e-7), of(new, 1e-7), OFFSETS)[0] == pytest.approx(1 - 2 / 66)

    def test_a_monotone_change_is_none_even_if_it_draws_scores_together(self):
        old = drawn(0)
        assert kendall(of(old, 0.01), of(old / 100, 0.01), OFFSETS)[0] == pytest.approx(1)

    def test_of_some_candidates_it_is_how_they_stand_to_all(self):
        old = np.arange(40.0)
        new, some = old.copy(), np.zeros(40, bool)
        some[3] = True
        new[3] = 100  # above all others, of which 3 were below it before and 8 above
        found = kendall(of(old), of(new), OFFSETS, of=some)
        assert found[0] == pytest.approx((3 - 8) / 11)
        assert np.isnan(found[1:]).all()

    def test_many_candidates_are_judged_on_evenly_spaced_ranks(self):
        random = np.random.default_rng(0)
        old = random.normal(0, 1, 3000)
        new = old + random.normal(0, 1, 3000)
        found = kendall(of(old), of(new), np.array([0, 3000]))[0]
        assert found == pytest.approx(kendalltau(old, new).statistic, abs=0.03)


class TestOverlap:
    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_the_share_of_the_first_k_that_both_have(self, seed):
        old, new = drawn(seed), drawn(seed + 10)
        found = top_k_overlap(of(old), of(new), OFFSETS, 5)
        for request in (0, 2):
            rows = slice(OFFSETS[request], OFFSETS[request + 1])
            both = set(np.argsort(-old[rows])[:5]) & set(np.argsort(-new[rows])[:5])
            assert found[request] == pytest.approx(len(both) / 5)
        assert np.isnan(found[1])

    def test_tied_candidates_share_the_last_places(self):
        old, new = np.arange(40.0), np.zeros(40)
        assert top_k_overlap(of(old), of(new), OFFSETS, 3)[0] == pytest.approx(3 / 12)
        new[11] = 1  # the best for sure, two of the other eleven
        expected = (1 + 2 * 2 / 11) / 3
        assert top_k_overlap(of(old), of(new), OFFSETS, 3)[0] == pytest.approx(expected)

    def test_one_that_lies_below_the_last_by_rounding_is_as_good(self):
        old = np.arange(40.0)
        old[8] = old[9] - 1e-6
        new = old.copy()
        new[[8, 9]] = old[[9, 8]]
        assert top_k_overlap(of(old, 1e-6), of(new, 1e-6), OFFSETS, 3)[0] == 1
        assert top_k_overlap(of(old, 1e-7), of(new, 1e-7), OFFSETS, 3)[0] == pytest.approx(2 / 3)


class TestOverRequests:
    def test_the_worst_tenth_is_the_mean_of_the_lowest(self):
        assert worst_tenth(np.arange(20.0)) == pytest.approx(0.5)
        assert worst_tenth(np.arange(5.0)) == pytest.approx(0)
        assert worst_tenth(np.arange(15.0)) == pytest.approx((0 + 0.5 * 1) / 1.5)

    def test_intervals_hold_where_the_bootstrap_says(self):
        values = np.random.default_rng(0).random(60)
        mean, worst = mean_and_worst(values, resamples=400)
        random = np.random.default_rng(1)
        draws = [random.choice(values, 60) for _ in range(4000)]
        for found, by_hand in (
            (mean, [np.mean(each) for each in draws]),
            (worst, [np.mean(np.sort(each)[:6]) for each in draws]),
        ):
            low, high = np.quantile(by_hand, [0.025, 0.975])
            assert found.low == pytest.approx(low, abs=0.02)
            assert found.high == pytest.approx(high, abs=0.02)

    def test_requests_that_all_agree_have_no_width(self):
        for each in mean_and_worst(np.ones(30), resamples=10):
            assert (each.low, each.estimate, each.high) == (1, 1, 1)


def test_requests_are_cut_where_they_end():
    assert [len(each.values) for each in of(drawn(0)).requests(OFFSETS)] == [
        stop - start for start, stop in itertools.pairwise(OFFSETS)
    ]
