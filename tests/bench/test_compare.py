"""Which target is faster: intervals from exchanging names within rounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bench.compare import Comparison, compare_rounds
from bench.exchange import chance_of_sum
from rankers.errors import UserError


def rounds_of(random, factor=1.0, *, rounds=40, each=50, level=None):
    level = np.ones(rounds) if level is None else level
    return [random.lognormal(0, 0.2, each) * 1e-3 * factor * one for one in level]


class TestRatio:
    def test_a_clear_difference_is_found_in_both_directions(self):
        random = np.random.default_rng(0)
        one, other = rounds_of(random), rounds_of(random, 1.5)
        (slower, _) = compare_rounds([one, other], ("a", "b"))
        (faster, _) = compare_rounds([one, other], ("a", "b"), baseline=1)
        assert (slower.target, slower.baseline, slower.verdict) == ("b", "a", "slower")
        assert (faster.target, faster.baseline, faster.verdict) == ("a", "b", "faster")
        assert slower.low < 1.5 < slower.high
        assert slower.value == pytest.approx(1 / faster.value, rel=1e-3)
        assert slower.low == pytest.approx(1 / faster.high, rel=1e-3)
        assert slower.high == pytest.approx(1 / faster.low, rel=1e-3)

    def test_the_difference_is_in_microseconds_and_agrees_with_the_ratio(self):
        random = np.random.default_rng(1)
        one = rounds_of(random)
        other = [each + 0.0005 for each in rounds_of(random)]
        (median, tail) = compare_rounds([one, other], ("a", "b"))
        assert median.difference_low_us < 500 < median.difference_high_us
        assert tail.difference_low_us < 500 < tail.difference_high_us
        assert median.difference_us == pytest.approx(500, rel=0.1)

    def test_drift_between_rounds_does_not_widen_the_interval(self):
        level = np.exp(np.random.default_rng(2).normal(0, 1, 40))
        widths = []
        for drift in (None, level):
            random = np.random.default_rng(3)
            pair = [rounds_of(random, level=drift) for _ in "ab"]
            median, _ = compare_rounds(pair, ("a", "b"))
            widths.append(median.high / median.low)
        assert widths[1] == pytest.approx(widths[0], rel=0.02)

    def test_a_tail_that_is_longer_is_found_where_medians_are_the_same(self):
        random = np.random.default_rng(4)
        one, other = (rounds_of(random, rounds=60, each=100) for _ in "ab")
        for each in other:
            each[random.random(100) < 0.03] *= 5
        median, tail = compare_rounds([one, other], ("a", "b"))
        assert (median.verdict, tail.verdict) == ("cannot tell", "slower")

    def test_a_percentile_below_its_floor_is_left_out(self):
        random = np.random.default_rng(5)
        pair = [rounds_of(random, rounds=12, each=10) for _ in "ab"]
        assert [each.quantile for each in compare_rounds(pair, ("a", "b"))] == [0.5]

    def test_too_few_rounds_give_no_interval_and_say_how_many_do(self):
        random = np.random.default_rng(6)
        pair = [rounds_of(random, factor, rounds=4, each=200) for factor in (1, 3)]
        median, _ = compare_rounds(pair, ("a", "b"))
        assert (median.low, median.high, median.verdict) == (None, None, "cannot tell")
        assert median.rounds_needed >= 9
        more = [rounds_of(random, f, rounds=median.rounds_needed) for f in (1, 3)]
        assert compare_rounds(more, ("a", "b"))[0].verdict == "slower"

    def test_a_wide_interval_asks_for_more_rounds_and_a_narrow_one_does_not(self):
        random = np.random.default_rng(7)
        wide = [rounds_of(random, rounds=20, each=10) for _ in "ab"]
        narrow = [rounds_of(random, rounds=100, each=100) for _ in "ab"]
        assert compare_rounds(wide, ("a", "b"))[0].rounds_needed > 20
        assert compare_rounds(narrow, ("a", "b"))[0].rounds_needed is None

    def test_more_targets_make_wider_intervals(self):
        random = np.random.default_rng(8)
        rounds = [rounds_of(random) for _ in range(6)]
        two = compare_rounds(rounds[:2], "ab")[0]
        many = compare_rounds(rounds, "abcdef")[0]
        assert many.low < two.low
        assert two.high < many.high

    def test_an_end_that_few_tail_values_cannot_know_is_none(self):
        random = np.random.default_rng(11)
        pair = [rounds_of(random, rounds=10, each=50) for _ in "ab"]
        _, tail = compare_rounds(pair, "ab")
        assert (tail.low, tail.high, tail.verdict) == (None, None, "cannot tell")

    def test_a_clock_that_did_not_move_is_not_an_error(self):
        still = [np.zeros(50) for _ in range(20)]
        assert compare_rounds([still, still], "ab")[0].verdict == "cannot tell"

    def test_a_round_without_answers_is_left_out(self):
        random = np.random.default_rng(9)
        one, other = rounds_of(random), rounds_of(random, 1.5)
        one[3] = np.empty(0)
        assert compare_rounds([one, other], "ab")[0].rounds == 39


@pytest.mark.parametrize("values", [[1], [3, -1, 2], [0, 2, 2, -5], [1, 1, 1, 1, 1, 1]])
def test_the_chance_of_a_sum_is_that_of_all_signs(values):
    sums = [
        sum(sign * abs(value) for sign, value in zip(signs, values, strict=True))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    expected = np.mean([each >= sum(values) for each in sums])
    assert chance_of_sum(np.array(values)) == pytest.approx(expected)


def test_with_many_rounds_the_chance_is_close_to_that_of_all_signs():
    values = np.arange(1, 31)
    values[::3] *= -1
    random = np.random.default_rng(0)
    signs = random.choice([-1, 1], (200_000, 30))
    expected = np.mean(signs @ np.abs(values) >= values.sum())
    assert chance_of_sum(values) == pytest.approx(expected, rel=0.1)


class TestComparison:
    def test_percentiles_that_disagree_are_mixed(self):
        random = np.random.default_rng(10)
        one = rounds_of(random, rounds=60, each=100)
        other = rounds_of(random, 0.8, rounds=60, each=100)
        for each in other:
            each[random.random(100) < 0.04] *= 6
        found = Comparison((), compare_rounds([one, other], "ab"))
        assert found.verdict("b") == "mixed"
        assert found.slower == ("b",)
        assert found.to_json()["verdicts"] == {"b": "mixed"}

    def test_one_target_compares_with_nobody(self):
        alone = compare_rounds([rounds_of(np.random.default_rng(0))], "a")
        assert alone == ()


def test_an_unknown_baseline_is_named():
    from bench.compare import baseline_place

    assert baseline_place(["a", "b"], "b") == 1
    with pytest.raises(UserError, match="'c' is none of the targets"):
        baseline_place(["a", "b"], "c")
