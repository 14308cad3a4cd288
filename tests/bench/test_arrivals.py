"""Arrival schedules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from bench.arrivals import (
    bursts,
    check_pattern,
    constant,
    draw,
    poisson,
    ramp,
    replay,
    trace_rate,
)
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


class TestBursts:
    def test_keep_the_average_rate(self):
        rates = [20_000 / bursts(200.0, count=20_000, seed=seed)[-1] for seed in range(8)]
        assert np.mean(rates) == pytest.approx(200, rel=0.05)

    def test_vary_as_a_poisson_process_of_two_rates_does(self):
        # Its index of dispersion over long windows is known:
        # 1 + 2 (r1 - r2)² p1 p2 / ((s1 + s2) r), with the rates s at which its states are left.
        rate, factor, share, length_s = 100.0, 4.0, 0.1, 0.05
        schedule = bursts(
            rate, count=200_000, seed=1, factor=factor, share=share, length_s=length_s
        )
        counts = np.bincount((schedule / 5).astype(int))[:-1]
        fast, slow = factor * rate, rate * (1 - factor * share) / (1 - share)
        leave = 1 / length_s + share / (length_s * (1 - share))
        known = 1 + 2 * (fast - slow) ** 2 * share * (1 - share) / (leave * rate)
        assert counts.var() / counts.mean() == pytest.approx(known, rel=0.25)

    def test_of_factor_one_are_a_poisson_process(self):
        gaps = np.diff(bursts(50.0, count=5000, seed=1, factor=1.0), prepend=0)
        assert kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01

    def test_may_hold_all_arrivals(self):
        schedule = bursts(100.0, count=5000, seed=0, factor=5, share=0.2, length_s=0.1)
        assert (np.diff(schedule) > 0.1).sum() > 10

    @pytest.mark.parametrize("text", ["factor=20", "share=0", "factor=0.5", "length_s=0"])
    def test_that_cannot_be_are_refused(self, text):
        with pytest.raises(UserError, match="bursts"):
            check_pattern(f"bursts:{text}")


class TestRamp:
    @pytest.mark.parametrize(("start", "end"), [(100.0, 300.0), (300.0, 100.0), (200.0, 200.0)])
    def test_has_the_rate_of_each_moment(self, start, end):
        count = 60_000
        schedule = ramp(start, to=end, count=count, seed=3)
        length = 2 * count / (start + end)
        edges = np.linspace(0, length, 7)
        found = np.histogram(schedule, edges)[0] / np.diff(edges)
        middles = (edges[1:] + edges[:-1]) / 2
        assert found == pytest.approx(start + (end - start) * middles / length, rel=0.03)

    def test_needs_its_end(self):
        with pytest.raises(UserError, match="ramp:to=400"):
            check_pattern("ramp")


class TestReplay:
    trace = np.array([0.0, 1.0, 4.0])

    def test_at_the_traces_own_rate_is_the_trace(self):
        schedule = replay(self.trace, rate_per_s=trace_rate(self.trace), count=3)
        assert schedule.tolist() == [0, 1, 4]

    def test_at_twice_the_rate_takes_half_the_time(self):
        schedule = replay(self.trace, rate_per_s=2 * trace_rate(self.trace), count=3)
        assert schedule.tolist() == [0, 0.5, 2]

    def test_begins_again_after_an_average_gap(self):
        schedule = replay(self.trace, rate_per_s=trace_rate(self.trace), count=7)
        assert schedule.tolist() == [0, 1, 4, 6, 7, 10, 12]

    def test_by_its_text_reads_the_file(self, tmp_path):
        path = tmp_path / "trace.jsonl"
        path.write_text("3\n1\n2\n")
        assert draw(f"replay:{path}", 2.0, count=3, seed=0).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("bursts:facto=2", "no setting 'facto'; did you mean 'factor'"),
        ("bursts:factor=much", "factor is 'much'; it is a number"),
        ("poisson:x=1", "no setting 'x'; there are none"),
        ("replay", "needs a file"),
        ("replay:nowhere.jsonl", "nowhere.jsonl: cannot be read"),
    ],
)
def test_a_mistake_in_a_pattern_is_named(pattern, said):
    with pytest.raises(UserError, match=said):
        check_pattern(pattern)
