"""Queues with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from bench.validation.queueing import (
    md1_mean,
    md1_percentile,
    md1_response_cdf,
    mm1_percentile,
    simulate,
)


def one_by_one(arrivals, service):
    """The queue as anybody would write it."""
    free, response = 0.0, []
    for arrival, seconds in zip(arrivals, service, strict=True):
        free = max(free, arrival) + seconds
        response.append(free - arrival)
    return np.array(response)


def test_the_simulation_is_the_queue_one_by_one():
    random = np.random.default_rng(0)
    arrivals, service = np.cumsum(random.exponential(1, 500)), random.exponential(0.9, 500)
    assert simulate(arrivals, service) == pytest.approx(one_by_one(arrivals, service))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
def test_simulated_queues_have_the_percentiles_that_theory_gives(load):
    random = np.random.default_rng(1)
    arrivals = np.cumsum(random.exponential(1 / load, 1_000_000))
    constant = simulate(arrivals, np.ones(1_000_000))
    exponential = simulate(arrivals, random.exponential(1, 1_000_000))
    assert constant.mean() == pytest.approx(md1_mean(load), rel=0.05)
    for quantile in (0.5, 0.9, 0.99):
        assert np.quantile(constant, quantile) == pytest.approx(
            md1_percentile(load, quantile), rel=0.08
        )
        assert np.quantile(exponential, quantile) == pytest.approx(
            mm1_percentile(load, quantile), rel=0.08
        )


@pytest.mark.parametrize("load", [0.1, 0.5, 0.95])
def test_the_distribution_of_md1_has_the_mean_of_pollaczek_and_khinchine(load):
    times = np.arange(1 + 5e-3, 150, 1e-2)
    beyond = sum(1 - md1_response_cdf(load, t) for t in times if t < 1 + 40 / (1 - load) / 2)
    assert 1 + 1e-2 * beyond == pytest.approx(md1_mean(load), rel=1e-2)


@pytest.mark.parametrize("load", [0.3, 0.9])
def test_the_distribution_of_md1_is_erlangs_where_that_can_be_computed(load):
    from math import exp, factorial, floor

    for waiting in (0.0, 0.5, 1.7, 4.2):
        terms = (
            (-1) ** k * (load * (waiting - k)) ** k / factorial(k) * exp(load * (waiting - k))
            for k in range(floor(waiting) + 1)
        )
        expected = (1 - load) * sum(terms)
        assert md1_response_cdf(load, 1 + waiting) == pytest.approx(expected, abs=1e-9)
