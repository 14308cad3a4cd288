"""Widths by sensitivity: budgets hold, what matters stays wide, and nothing is left changed."""

from __future__ import annotations

import numpy as np
import pytest
import table_rankers
import torch
from torch import nn

from optimize.capture import capture
from optimize.tables.program import chosen_tables, open_tables
from optimize.tables.quantize import levels_of, rounded
from optimize.tables.widths import choose_widths
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch


@pytest.fixture(scope="module")
def loud(store):
    """A ranker whose item table matters and whose table of tags hardly does."""
    ranker = table_rankers.shop()
    with torch.no_grad():
        ranker.module.tags.weight.mul_(1e-3)
        ranker.module.item.weight.mul_(3.0)
    return capture(ranker, store, candidates=(1,))


@pytest.fixture(scope="module")
def opened(loud):
    graph, tables = open_tables(loud)
    return graph, tables, chosen_tables(tables, "*", 200), graph.sample(400)


def spread_change(graph, tables, columns, widths):
    """What scores change by, computed apart: every table replaced, one run."""
    before = graph.score(columns).double()
    those = [each for each in tables if each.name in widths]
    scales = levels_of(those, widths)
    kept = [each.weight.clone() for each in those]
    for each in those:
        each.weight.copy_(rounded(each.weight, widths[each.name], scales))
    after = graph.score(columns).double()
    for each, weight in zip(those, kept, strict=True):
        each.weight.copy_(weight)
    return float((after - before).abs().mean() / before.std())


class TestByteBudget:
    @pytest.mark.parametrize("ratio", [0.7, 0.5, 0.4])
    def test_it_holds(self, opened, ratio):
        choice = choose_widths(*opened, max_bytes_ratio=ratio)
        assert choice.bytes_ratio <= ratio
        sizes = {each.name: each.bytes for each in opened[1]}
        after = {(each.table, each.width): each.bytes for each in choice.trials}
        now = [after[name, choice.widths[name]] if name in choice.widths else size
               for name, size in sizes.items()]  # fmt: skip
        assert sum(now) / sum(sizes.values()) == pytest.approx(choice.bytes_ratio)

    def test_tables_that_hardly_matter_go_first(self, opened):
        choice = choose_widths(*opened, max_bytes_ratio=0.45)
        assert choice.widths["tags"] == "int4"
        assert choice.widths.get("item") != "int4"

    def test_one_that_cannot_be_met_says_what_can(self, opened):
        with pytest.raises(UserError, match=r"held in 5\.0% of their bytes: .* they take 3\d\.\d%"):
            choose_widths(*opened, max_bytes_ratio=0.05)


class TestQualityBudget:
    @pytest.mark.parametrize("limit", [0.003, 0.02])
    def test_it_holds_for_all_tables_together(self, opened, limit):
        graph, tables, _, columns = opened
        choice = choose_widths(*opened, max_score_change=limit)
        assert choice.widths
        measured = spread_change(graph, tables, columns, choice.widths)
        assert measured == pytest.approx(choice.score_change, rel=1e-6)
        assert measured <= limit

    def test_more_may_change_for_fewer_bytes(self, opened):
        found = [choose_widths(*opened, max_score_change=limit) for limit in (0.001, 0.01, 0.2)]
        ratios = [each.bytes_ratio for each in found]
        assert ratios == sorted(ratios, reverse=True)
        assert len(set(ratios)) == 3


class TestTrials:
    def test_each_table_was_tried_at_each_width_and_is_as_it_was(self, opened):
        graph, tables, _, columns = opened
        before, weights = graph.score(columns), [each.weight.clone() for each in tables]
        choice = choose_widths(*opened, max_bytes_ratio=0.4)
        tried = {(each.table, each.width): each.score_change for each in choice.trials}
        free = ("item", "user", "tags", "region")
        assert set(tried) == {(x, width) for x in free for width in ("fp16", "int8", "int4")}
        for name in free:
            assert 0 < tried[name, "fp16"] < tried[name, "int8"] < tried[name, "int4"]
        assert tried["tags", "int4"] < tried["item", "int4"]
        assert torch.equal(graph.score(columns), before)
        for each, weight in zip(tables, weights, strict=True):
            assert torch.equal(each.weight, weight)


class Twins(nn.Module):
    """Two tables with the same rows, read by the same IDs: their errors are the same."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Embedding(300, 16), nn.Embedding(300, 16)
        self.other.load_state_dict(self.one.state_dict())

    def forward(self, item, weight):
        return ((self.one(item) + self.other(item)) * weight[:, None]).sum(1)


def test_errors_that_add_up_otherwise_are_found_and_steps_taken_back(store):
    features = (
        Feature("weight", "float32", side="user"),
        Feature("item", "int64", (), "item", 300),
    )
    batch = RequestBatch(
        {"weight": np.ones(4, np.float32)},
        {"item": np.arange(20)},
        np.arange(5) * 5,
        np.tile(np.float32([0, 1]), 10),
    )
    torch.manual_seed(0)
    twins = Ranker("twins", Twins().eval(), Signature(features, score="logit"), batch)
    graph, tables = open_tables(capture(twins, store, candidates=(1,)))
    columns = graph.sample(400)
    free = choose_widths(graph, tables, {}, columns, max_bytes_ratio=0.15)
    alone = next(x.score_change for x in free.trials if x.width == "int4")
    assert free.score_change == pytest.approx(2 * alone, rel=0.05)
    # As independent errors both would fit: 1.41 times what one alone does.
    choice = choose_widths(graph, tables, {}, columns, max_score_change=1.5 * alone)
    assert 0.9 * alone <= choice.score_change <= 1.5 * alone
    assert sorted(choice.widths.values()).count("int4") == 1
