"""Tables as products: the least error for what is read, whatever the weights, and the budget."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimize.tables.budget import Form, allocate, least_bytes
from optimize.tables.factors import (
    combined,
    directions_of,
    quotient_remainder,
    remainder_counts,
    second_moment,
)
from optimize.tables.reads import TableReads, read_share


def reads_of(rows, width, seed=0):
    """Reads of a long tail, and slopes along all directions, some more than others."""
    random = torch.Generator().manual_seed(seed)
    share = 1.0 / (1 + torch.arange(rows, dtype=torch.float64))
    slopes = torch.randn(width, 2 * width, generator=random, dtype=torch.float64)
    slopes *= 0.7 ** torch.arange(width)[:, None]
    return TableReads(share / share.sum(), slopes @ slopes.T, rows)


class TestLowRank:
    @pytest.mark.parametrize("rank", [1, 3])
    def test_a_table_of_that_rank_comes_back(self, rank):
        torch.manual_seed(0)
        table = torch.randn(50, rank) @ torch.randn(rank, 8)
        directions = directions_of(table, reads_of(50, 8))
        narrow, basis = directions.factors(table, rank)
        assert (narrow.shape, basis.shape, narrow.dtype) == ((50, rank), (rank, 8), table.dtype)
        torch.testing.assert_close(narrow @ basis, table, atol=1e-4, rtol=1e-4)
        assert directions.errors[rank] == 0

    def test_the_error_is_what_is_lost_of_what_is_read_and_followed(self):
        torch.manual_seed(0)
        table, reads = torch.randn(40, 6).double(), reads_of(40, 6)
        directions = directions_of(table, reads)
        for rank in range(7):
            narrow, basis = directions.factors(table, rank)
            lost = second_moment(narrow @ basis - table, reads.share)
            assert directions.errors[rank] == pytest.approx(reads.score_error(lost), abs=1e-12)
        assert directions.errors[0] == pytest.approx(
            reads.score_error(second_moment(table, reads.share))
        )

    def test_no_other_projection_loses_less(self):
        torch.manual_seed(0)
        table, reads = torch.randn(40, 6).double(), reads_of(40, 6)
        least = float(directions_of(table, reads).errors[2])
        for each in range(50):
            random = torch.Generator().manual_seed(each)
            basis = torch.randn(6, 2, generator=random, dtype=torch.float64)
            inverse = torch.linalg.inv(basis.T @ reads.slopes @ basis) @ basis.T @ reads.slopes
            lost = second_moment(table @ inverse.T @ basis.T - table, reads.share)
            assert reads.score_error(lost) >= least

    def test_rows_of_zeros_stay_exactly(self):
        table = torch.randn(30, 8)
        table[[0, 7]] = 0
        narrow, basis = directions_of(table, reads_of(30, 8)).factors(table, 3)
        assert not (narrow @ basis)[[0, 7]].any()


class TestQuotientsAndRemainders:
    @pytest.mark.parametrize("count", [4, 13])
    def test_a_table_that_is_one_comes_back(self, count):
        torch.manual_seed(0)
        table = combined(torch.randn(13, 5), torch.randn(count, 5), 50)
        quotients, remainders = quotient_remainder(table, reads_of(50, 5).share, count)
        assert (len(quotients), len(remainders)) == (-(-50 // count), count)
        torch.testing.assert_close(combined(quotients, remainders, 50), table, atol=1e-3, rtol=1e-3)

    def test_no_small_step_of_a_part_loses_less(self):
        torch.manual_seed(0)
        table, share = torch.randn(60, 4), reads_of(60, 4).share
        parts = quotient_remainder(table, share, 6)

        def lost(left, right):
            return float((share[:, None] * (combined(left, right, 60) - table) ** 2).sum())

        least = lost(*parts)
        for each in range(20):
            torch.manual_seed(each)
            left, right = (x + 0.03 * torch.randn_like(x) for x in parts)
            assert lost(left, parts[1]) > least
            assert lost(parts[0], right) > least - 1e-4

    def test_rows_that_are_read_most_are_nearest(self):
        torch.manual_seed(0)
        table, share = torch.randn(400, 8), reads_of(400, 8).share
        found = combined(*quotient_remainder(table, share, 200), 400)
        errors = (found - table).square().sum(1)
        assert errors[:20].mean() < 0.1 * errors[200:].mean()

    def test_small_and_large_numbers_are_tried(self):
        assert remainder_counts(100) == (2, 4, 8, 13, 25, 50)
        assert remainder_counts(3) == ()


def test_unread_rows_share_what_one_half_reads_and_the_other_does_not():
    first, second = torch.tensor([6, 2, 0, 0, 0]), torch.tensor([6, 0, 2, 0, 0])
    share = read_share(first, second)
    torch.testing.assert_close(
        share, torch.tensor([0.75 * 0.75, 0.09375, 0.09375, 0.125, 0.125]).double()
    )
    nothing = torch.zeros(4, dtype=torch.int64)
    assert read_share(nothing, nothing).tolist() == [0.25] * 4


forms = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 100)), min_size=1, max_size=4)


class TestBudget:
    @given(st.lists(forms, min_size=1, max_size=3), st.floats(0, 1))
    def test_it_holds_and_is_near_the_best(self, tables, share):
        choices = {
            str(name): [
                Form(100, 0.0, 0),
                *(Form(size, float(error), place + 1) for place, (size, error) in enumerate(some)),
            ]
            for name, some in enumerate(tables)
        }
        least = least_bytes(choices)
        budget = least + share * (100 * len(choices) - least)
        chosen = allocate(choices, budget)
        assert sum(each.bytes for each in chosen.values()) <= budget
        assert all(each in choices[name] for name, each in chosen.items())
        error = sum(each.error for each in chosen.values())
        best = min(
            sum(each.error for each in some)
            for some in itertools.product(*choices.values())
            if sum(each.bytes for each in some) <= budget
        )
        worst_step = max(x.error for some in choices.values() for x in some)
        assert best <= error <= best + worst_step

    def test_bytes_go_where_they_take_most_error_away(self):
        choices = {
            "plain": [Form(100, 0.0, 0), Form(50, 1.0, 2), Form(25, 5.0, 1)],
            "dear": [Form(100, 0.0, 0), Form(50, 100.0, 2), Form(25, 500.0, 1)],
        }
        found = allocate(choices, 150)
        assert {name: each.size for name, each in found.items()} == {"plain": 2, "dear": 0}
        found = allocate(choices, 130)
        assert {name: each.size for name, each in found.items()} == {"plain": 1, "dear": 0}
        assert least_bytes(choices) == 50
