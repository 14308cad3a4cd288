"""Figures as text."""

from __future__ import annotations

import numpy as np
import pytest

from bench.tables import latency_table, number_text, percentile_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.012345, "0.0123"),
        (0.9996, "1.00"),
        (1.3844, "1.38"),
        (13.84, "13.8"),
        (138.4, "138"),
        (12_345, "12,300"),
        (999.6, "1,000"),
        (1e-5, "0.0000100"),
    ],
)
def test_figures_have_three_significant_digits_and_no_exponent(value, text):
    assert number_text(value) == text


def test_a_percentile_comes_with_its_interval(make_measurement):
    latencies = make_measurement(np.arange(1, 1001) / 1e3).response
    assert percentile_text(latencies, 0.99) == "990 (983-997)"


def test_a_percentile_below_its_floor_is_a_dash(make_measurement):
    assert percentile_text(make_measurement(np.full(100, 0.001)).response, 0.99) == "-"


def test_a_common_load_is_in_the_title_and_different_ones_in_a_column(make_measurement):
    closed = make_measurement()
    load = {"mode": "open", "pattern": "poisson", "rate_per_s": 200.0, "workers": None}
    assert "load" not in latency_table([closed, closed]).columns
    both = latency_table([closed, make_measurement(load=load)])
    assert both.rows[1][1] == "open, Poisson 200/s; 3 candidates"


def test_a_void_measurement_says_so(make_measurement):
    (row,) = latency_table([make_measurement(steal_share=0.5)]).rows
    assert row[0] == "a (void)"
