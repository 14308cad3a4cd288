"""Percentiles, their intervals, and merging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import latencies
from bench.latencies import (
    EXACT_LIMIT,
    QUANTILES,
    Latencies,
    interval_ranks,
    merge,
    percentile_label,
    record,
    sample_floor,
)
from rankers.errors import UserError

SECONDS = st.lists(st.floats(1e-6, 500.0), min_size=1, max_size=60)


class TestIntervalRanks:
    @pytest.mark.parametrize(("count", "expected"), [(1000, (983, 997)), (10_000, (9880, 9920))])
    def test_are_the_published_ones_for_p99(self, count, expected):
        assert interval_ranks(count, 0.99) == expected

    @pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
    @pytest.mark.parametrize("count", [400, 1000])
    def test_enclose_the_true_percentile_in_95_of_100_simulated_runs(self, quantile, count):
        low, high = interval_ranks(count, quantile)
        # Of uniform samples the true percentile is the quantile itself; order statistics do not
        # care for the distribution.
        runs = np.sort(np.random.default_rng(count).random((8000, count)), axis=1)
        enclosed = (runs[:, low - 1] <= quantile) & (quantile < runs[:, high - 1])
        assert 0.943 <= enclosed.mean() <= 0.985

    @pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
    def test_are_no_wider_than_they_must_be(self, quantile):
        low, high = interval_ranks(1000, quantile)
        runs = np.sort(np.random.default_rng(3).random((8000, 1000)), axis=1)
        assert (runs[:, low] > quantile).mean() > 0.02
        assert (runs[:, high - 2] <= quantile).mean() > 0.02

    @pytest.mark.parametrize("quantile", QUANTILES)
    def test_begin_to_exist_at_the_sample_floor(self, quantile):
        floor = sample_floor(quantile)
        assert interval_ranks(floor, quantile) is not None
        assert interval_ranks(floor - 1, quantile) is None

    def test_need_368_samples_for_p99_and_ten_times_that_for_p99_9(self):
        assert sample_floor(0.99) == 368
        assert sample_floor(0.999) == 3688


class TestPercentile:
    def test_is_the_nearest_rank_order_statistic(self):
        found = record(np.arange(1, 1001) / 1e3).percentile(0.99)
        assert (found.low_us, found.value_us, found.high_us) == (983e3, 990e3, 997e3)

    def test_is_not_given_below_its_floor(self):
        few = record(np.full(100, 0.001))
        assert few.percentile(0.99) is None
        assert [each.label for each in few.percentiles()] == ["p50", "p90"]

    def test_of_nothing_is_not_given(self):
        assert record(np.empty(0)).percentiles() == ()
        with pytest.raises(ValueError, match="no latencies"):
            record(np.empty(0)).point_us(0.5)

    def test_is_named_as_people_write_it(self):
        assert [percentile_label(each) for each in QUANTILES] == ["p50", "p90", "p99", "p99.9"]


class TestHistogram:
    def test_agrees_with_the_exact_samples_within_its_three_digits(self):
        seconds = np.random.default_rng(1).lognormal(-6, 1, 20_000)
        exact = record(seconds)
        coarse = Latencies(exact.histogram, None)
        for quantile in QUANTILES:
            expected = exact.percentile(quantile)
            found = coarse.percentile(quantile)
            for side in ("low_us", "value_us", "high_us"):
                assert getattr(found, side) == pytest.approx(
                    getattr(expected, side), rel=1e-3, abs=1
                )

    def test_takes_over_when_there_are_too_many_samples_to_keep(self):
        assert record(np.full(EXACT_LIMIT, 0.001)).samples_ns is not None
        many = record(np.full(EXACT_LIMIT + 1, 0.001))
        assert many.samples_ns is None
        assert many.count == EXACT_LIMIT + 1

    def test_holds_what_is_shorter_than_a_microsecond_or_longer_than_ten_minutes(self):
        assert record(np.array([0.0, 1e-9, 1000.0])).count == 3


class TestMerge:
    @given(parts=st.lists(SECONDS, min_size=1, max_size=5))
    @settings(max_examples=60, deadline=None)
    def test_equals_pooling_the_samples(self, parts):
        merged = merge([record(np.array(part)) for part in parts])
        pooled = record(np.concatenate(parts))
        assert merged.samples_ns.tolist() == pooled.samples_ns.tolist()
        assert list(merged.histogram.counts) == list(pooled.histogram.counts)
        assert merged.percentiles() == pooled.percentiles()

    def test_of_histograms_alone_equals_pooling_too(self):
        random = np.random.default_rng(2)
        parts = [record(random.exponential(0.01, EXACT_LIMIT + 10)) for _ in range(2)]
        merged = merge([*parts, record(np.full(5, 0.02))])
        assert merged.samples_ns is None
        assert merged.count == 2 * EXACT_LIMIT + 25
        counts = sum(np.array(list(part.histogram.counts)) for part in parts)
        counts[merged.histogram._counts_index_for(20_000)] += 5
        assert list(merged.histogram.counts) == counts.tolist()

    def test_with_an_empty_run_changes_nothing(self):
        run = record(np.array([0.001, 0.002]))
        merged = merge([record(np.empty(0)), run])
        assert merged.distribution()[0].tolist() == run.distribution()[0].tolist()


class TestJson:
    @pytest.mark.parametrize("count", [0, 5, 1000, EXACT_LIMIT + 1])
    def test_keeps_everything(self, count):
        before = record(np.random.default_rng(0).exponential(0.01, count))
        after = Latencies.from_json(before.to_json())
        assert after.count == count
        assert after.percentiles() == before.percentiles()
        assert (after.samples_ns is None) == (before.samples_ns is None)

    def test_refuses_a_count_that_is_not_the_histograms(self):
        data = record(np.array([0.001, 0.002])).to_json() | {"count": 3}
        with pytest.raises(UserError, match="disagree"):
            Latencies.from_json(data)


def test_percentiles_of_loaded_histograms_do_not_come_from_stored_text():
    data = record(np.arange(1, 1001) / 1e3).to_json()
    data["percentiles"] = []
    assert latencies.Latencies.from_json(data).percentile(0.5) is not None
