"""Figures as text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.compare import Ratio
from bench.tables import (
    capacity_table,
    latency_table,
    number_text,
    percentile_text,
    ratio_table,
    undecided_texts,
    unprinted_texts,
)


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
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 1001) / 1e3)
    found = make_measurement(shuffled).response.percentile(0.99)
    assert percentile_text(found) == "990 (983-997)"


def test_a_run_that_got_slower_and_slower_has_no_p99(make_measurement):
    ascending = make_measurement(np.arange(1, 1001) / 1e3)
    assert latency_table([ascending]).rows[0][3] == "-"
    (reason,) = (each for each in unprinted_texts(ascending) if each.startswith("p99 "))
    assert "1,000 requests, neighbours alike, are worth" in reason


def test_nothing_is_said_of_percentiles_that_are_printed_or_have_too_few(make_measurement):
    random = np.random.default_rng(1)
    for count in (100, 5000):
        measurement = make_measurement(random.exponential(0.002, count))
        assert list(unprinted_texts(measurement)) == []


def test_a_void_rate_says_so_and_the_title_says_of_what(found_of):
    found = found_of["capacity"]
    table = capacity_table(found)
    assert table.title == "Capacity of a: 3 candidates"
    assert [row[0] for row in table.rows] == ["100", "140"]
    disturbed = replace(found.points[0].measurement, steal_share=0.3)
    points = (replace(found.points[0], measurement=disturbed), *found.points[1:])
    assert capacity_table(replace(found, points=points)).rows[0][0] == "100 (void)"


def test_verdicts_say_what_would_tell():
    ratio = Ratio("b", "a", 0.5, 1.02, 0.9, 1.15, 20.0, -100.0, 150.0, 0.99, 20, 130)
    (row,) = ratio_table([ratio]).rows
    assert row == (
        "b", "p50", "1.020 (0.900 to 1.150)", "0.0200 (-0.100 to 0.150)", "cannot tell",
    )  # fmt: skip
    (line,) = undecided_texts([ratio, replace(ratio, rounds_needed=None)])
    assert "about 130 rounds like these (6.50 times the requests)" in line
    (row,) = ratio_table([replace(ratio, low=None, difference_low_us=None)]).rows
    assert row[2:4] == ("1.020", "0.0200")


def test_a_percentile_below_its_floor_is_a_dash(make_measurement):
    assert percentile_text(make_measurement(np.full(100, 0.001)).percentile(0.99)) == "-"


def test_a_common_load_is_in_the_title_and_different_ones_in_a_column(make_measurement):
    closed = make_measurement()
    load = {"mode": "open", "pattern": "poisson", "rate_per_s": 200.0, "workers": None}
    assert "load" not in latency_table([closed, closed]).columns
    both = latency_table([closed, make_measurement(load=load)])
    assert both.rows[1][1] == "open, Poisson 200/s; 3 candidates"


def test_a_void_measurement_says_so(make_measurement):
    (row,) = latency_table([make_measurement(steal_share=0.5)]).rows
    assert row[0] == "a (void)"
