"""How many independent requests a run is worth."""

from __future__ import annotations

import numpy as np
import pytest

from bench.effective import block_length, effective_count, worth
from bench.latencies import record
from bench.validation.queueing import mm1_percentile, simulate


def markov(random, count, stay):
    """Zeros and ones that stay as they are with a chance; the mean's variance is known."""
    changes = random.random(count) > stay
    return np.cumsum(changes) % 2 == 1


def test_independent_requests_are_worth_what_they_are():
    random = np.random.default_rng(0)
    found = [effective_count(random.random(2000) > 0.9) for _ in range(50)]
    assert np.median(found) > 1800
    assert max(found) <= 2000


def test_a_chain_that_sticks_is_worth_as_few_as_its_theory_says():
    # The correlation of neighbours is r = 2 * stay - 1; the mean's variance grows by
    # (1 + r) / (1 - r) = 9.
    random = np.random.default_rng(1)
    found = [effective_count(markov(random, 20_000, 0.9)) for _ in range(30)]
    assert 20_000 / 9 * 0.8 < np.median(found) < 20_000 / 9 * 1.4


def test_blocks_are_longer_the_longer_the_series_remembers():
    random = np.random.default_rng(2)
    lengths = [
        np.median([block_length(markov(random, 5000, stay) * 1.0) for _ in range(20)])
        for stay in (0.5, 0.8, 0.95)
    ]
    assert lengths[0] < 5 < lengths[1] < lengths[2]


def test_rounds_that_differ_are_worth_little_more_than_their_number():
    # Half the rounds are slow: it is rounds that vary, not requests.
    above = np.concatenate([np.full(100, r % 2 == 0) for r in range(20)])
    assert effective_count(above, [100] * 20) < 40


def test_rounds_that_are_alike_lose_little():
    random = np.random.default_rng(3)
    found = [effective_count(random.random(2000) > 0.5, [100] * 20) for _ in range(30)]
    assert np.median(found) > 1200


@pytest.mark.parametrize("series", [np.zeros(10, bool), np.ones(10, bool), np.zeros(0, bool)])
def test_a_series_that_is_all_the_same_counts_in_full(series):
    assert effective_count(series) == len(series)


@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_intervals_of_a_queue_hold_its_percentile_where_order_statistics_alone_fail(quantile):
    random, load = np.random.default_rng(4), 0.6
    truth = mm1_percentile(load, quantile) * 1e6
    honest = naive = 0
    for _ in range(60):
        arrivals = np.cumsum(random.exponential(1 / load, 21_000))
        times = record(simulate(arrivals, random.exponential(1, 21_000))[1000:])
        one = times.percentile(quantile, worth(times.samples_ns, quantile))
        other = times.percentile(quantile)
        honest += one.low_us <= truth <= one.high_us
        naive += other.low_us <= truth <= other.high_us
    assert honest >= 51  # of 60: 95 % less the chance of one in ten thousand or so
    assert naive < honest


def test_dependence_further_down_counts_where_a_run_has_hardly_any_above():
    # Slow stretches below the p99, and scattered requests above it.
    random = np.random.default_rng(5)
    times = random.random(4000) * 0.1 + 2.0 * (np.arange(4000) % 1000 < 90)
    times[random.choice(4000, 40, replace=False)] += 10
    above_p99 = times > np.sort(times)[3959]
    assert effective_count(above_p99) > 3000
    assert worth(times, 0.99, tails=(1,)) == effective_count(above_p99)
    assert worth(times, 0.99) < 400


def test_nothing_is_worth_nothing():
    assert worth(np.empty(0), 0.99) == 0.0
