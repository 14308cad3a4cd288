"""Buckets pad as little as any so many could; every request runs in one of them, or in pieces."""

import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.buckets import (
    Buckets,
    candidate_histogram,
    choose_buckets,
    padding_waste,
    workload_histogram,
)
from optimize.cli import main
from rankers.errors import UserError

HISTOGRAMS = st.dictionaries(st.integers(1, 60), st.integers(1, 9), min_size=1, max_size=9)


def padded_rows(sizes, histogram):
    """What a request of each size pads, counted one by one."""
    return sum(times * (min(s for s in sizes if s >= n) - n) for n, times in histogram.items())


@settings(max_examples=60, deadline=None)
@given(HISTOGRAMS, st.integers(1, 4), st.sampled_from([1, 4, 8]))
def test_no_other_choice_of_sizes_pads_less(histogram, count, multiple):
    chosen = choose_buckets(histogram, count, multiple=multiple)
    possible = sorted({-(-n // multiple) * multiple for n in histogram})
    brute_force = min(
        padded_rows(sizes, histogram)
        for k in range(1, count + 1)
        for sizes in itertools.combinations(possible, k)
        if sizes[-1] >= max(histogram)
    )
    assert len(chosen.sizes) <= count
    assert all(size % multiple == 0 for size in chosen.sizes)
    assert padded_rows(chosen.sizes, histogram) == brute_force
    assert padding_waste(chosen, histogram).padded == brute_force


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 500), st.lists(st.integers(1, 90), min_size=1, max_size=5, unique=True))
def test_pieces_cover_every_row_once_in_order_each_in_the_smallest_bucket(rows, sizes):
    buckets = Buckets(tuple(sorted(sizes)))
    pieces = buckets.pieces(rows)
    assert [start for start, _, _ in pieces] == [0, *(end for _, end, _ in pieces)][:-1]
    assert pieces[-1][1] == rows
    for start, end, size in pieces:
        assert size == min(each for each in sizes if each >= end - start)


def test_a_request_beyond_the_greatest_bucket_is_refused_where_that_is_the_rule():
    buckets = Buckets((8, 64), beyond="refuse")
    assert buckets.pieces(64) == [(0, 64, 64)]
    with pytest.raises(UserError, match=r"^65 rows were sent; buckets hold 1 to 64"):
        buckets.pieces(65)
    assert Buckets((8, 64)).pieces(65) == [(0, 64, 64), (64, 65, 8)]


def test_a_request_without_rows_is_refused():
    with pytest.raises(UserError, match="0 rows were sent"):
        Buckets((8,)).pieces(0)


def test_waste_is_the_share_of_computed_rows_and_says_which_buckets_are_used():
    waste = padding_waste(Buckets((10, 100)), {5: 2, 50: 1, 250: 1})
    # 2 of 5 in 10; 50 in 100; 250 in 100, 100 and 50 in 100.
    assert (waste.rows, waste.padded) == (310, 2 * 5 + 50 + 50)
    assert waste.of_computed == 110 / 420
    assert waste.share == {10: 2 / 6, 100: 4 / 6}


def test_a_greatest_bucket_is_there_although_nothing_seen_needs_it():
    chosen = choose_buckets({20: 9, 40: 1}, 3, greatest=4096)
    assert chosen.sizes == (24, 40, 4096)


def test_requests_beyond_the_greatest_bucket_count_by_their_pieces():
    # 1,000 is run as 400, 400 and 200, so 200 is worth a bucket.
    assert choose_buckets({1000: 1}, 2, greatest=400).sizes == (200, 400)


def test_ranges_leave_no_number_of_rows_out_and_none_twice():
    assert Buckets((8, 64, 512)).ranges() == [(1, 8, 8), (9, 64, 64), (65, 512, 512)]


@pytest.mark.parametrize("sizes", [(), (0, 8), (8, 8), (64, 8)])
def test_sizes_that_are_not_ascending_numbers_are_refused(sizes):
    with pytest.raises(UserError, match="expected ascending numbers from 1"):
        Buckets(sizes)


@pytest.mark.parametrize("histogram", [{}, {5: 0}, {0: 3}, {5: -1}])
def test_a_histogram_that_says_nothing_is_refused(histogram):
    with pytest.raises(UserError):
        choose_buckets(histogram, 3)


def test_thousands_of_different_sizes_are_no_trouble():
    counts = np.random.default_rng(0).integers(1, 4097, 5000)
    chosen = choose_buckets(candidate_histogram(counts), 8, multiple=1)
    assert len(chosen.sizes) == 8
    assert chosen.greatest == counts.max()
    # Of evenly spread sizes, about evenly spread buckets are best.
    assert np.ptp(np.diff(chosen.sizes)) < 150


class TestWorkloads:
    def test_a_histogram_is_taken_as_it_is_written(self, tmp_path):
        path = tmp_path / "w.toml"
        path.write_text('[candidates]\nkind = "histogram"\ncounts = [5, 9]\nweights = [3, 0]\n')
        assert workload_histogram(str(path)) == {5: 3.0}

    def test_a_distribution_is_drawn_from_the_same_each_time(self, tmp_path):
        path = tmp_path / "w.toml"
        path.write_text('[candidates]\nkind = "uniform"\nmin = 20\nmax = 50\n')
        found = workload_histogram(str(path))
        assert set(found) == set(range(20, 51))
        assert found == workload_histogram(str(path))


class TestCommand:
    def test_it_prints_sizes_profiles_and_waste(self, tmp_path):
        path = tmp_path / "w.toml"
        path.write_text('[candidates]\nkind = "histogram"\ncounts = [10, 100]\nweights = [3, 1]\n')
        done = CliRunner().invoke(main, ["buckets", str(path), "--count", "2", "--json"])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert found["sizes"] == [16, 104]
        assert found["profiles"][1] == {"min": 17, "opt": 104, "max": 104}
        assert found["padding_of_computed_rows"] == pytest.approx((3 * 6 + 4) / (3 * 16 + 104))
        text = CliRunner().invoke(main, ["buckets", str(path), "--count", "2"]).stdout
        assert "16  1 to 16 candidates, 75.0% of the runs" in text

    def test_an_unknown_workload_is_one_line(self):
        done = CliRunner().invoke(main, ["buckets", "fed"])
        assert done.exit_code == 2
        assert "did you mean 'feed'" in done.stderr
