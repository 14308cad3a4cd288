"""Requests made up for a signature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.distributions import Fixed, Uniform
from bench.synthesis import synthesize
from bench.workload import make_workload
from bench.workload_recipe import Side, WorkloadRecipe
from rankers.errors import UserError
from rankers.features import Feature, Signature

EVERYTHING = Signature(
    (
        Feature("user_id", "int64", (), "user", 1000),
        Feature("history", "int64", (10,), "user", 5000),
        Feature("history_mask", "bool", (10,), "user"),
        Feature("text", "int32", (6,), "item", 300),
        Feature("text_mask", "int64", (6,), "item", 2),
        Feature("item_id", "int64", (), "item", 100_000),
        Feature("count", "int32", (), "item"),
        Feature("price", "float16", (2,), "item"),
        Feature("rate", "float64", (), "item"),
        Feature("new", "bool", (), "item"),
        Feature("only", "int64", (), "item", 1),
    )
)
RECIPE = WorkloadRecipe("w", Uniform(5, 40), distinct=50, items=Side(2000, 1.0))


def test_fit_any_signature():
    synthesize(RECIPE, EVERYTHING, seed=0).check(EVERYTHING)


def test_the_same_seed_sends_the_same_bytes_and_another_seed_others():
    sums = [make_workload(RECIPE, EVERYTHING, seed=seed).describe()["sha256"] for seed in (3, 3, 4)]
    assert sums[0] == sums[1] != sums[2]


def test_candidates_of_one_request_are_different():
    for request in synthesize(RECIPE, EVERYTHING, seed=1):
        assert len(set(request.items["item_id"].tolist())) == request.candidates


def test_a_working_set_bounds_the_rows_that_are_read_and_they_lie_all_over_the_table():
    recipe = replace(RECIPE, items=Side(200, 0.0), distinct=300)
    ids = np.unique(synthesize(recipe, EVERYTHING, seed=0).items["item_id"])
    assert len(ids) == 200
    assert np.histogram(ids, 4, (0, 100_000))[0].min() > 20


def test_without_a_working_set_ids_hardly_repeat():
    recipe = replace(RECIPE, items=Side(None, 0.0))
    ids = synthesize(recipe, EVERYTHING, seed=0).items["item_id"]
    assert len(np.unique(ids)) > 0.95 * len(ids)


def test_popular_items_come_more_often():
    ids = synthesize(replace(RECIPE, distinct=300), EVERYTHING, seed=0).items["item_id"]
    counts = np.sort(np.unique(ids, return_counts=True)[1])[::-1]
    assert counts[0] > 10 * np.median(counts)


def test_an_item_that_comes_again_brings_the_same_features():
    items = synthesize(RECIPE, EVERYTHING, seed=0).items
    seen = {}
    for row, item in enumerate(items["item_id"].tolist()):
        features = tuple(items[name][row].tobytes() for name in sorted(items))
        assert seen.setdefault(item, features) == features
    assert len(seen) < len(items["item_id"])


def test_sequences_end_in_padding_and_masks_say_where():
    batch = synthesize(replace(RECIPE, sequences=Uniform(1, 8)), EVERYTHING, seed=0)
    lengths = batch.user["history_mask"].sum(axis=1)
    assert lengths.min() == 1
    assert lengths.max() == 8
    for history, mask in zip(batch.user["history"], batch.user["history_mask"], strict=True):
        assert (np.diff(mask.astype(int)) <= 0).all()
        assert not history[~mask].any()
    assert batch.items["text_mask"].sum(axis=1).max() == 6  # longer ones are cut


def test_sequences_are_full_unless_told_otherwise():
    batch = synthesize(RECIPE, EVERYTHING, seed=0)
    assert batch.user["history_mask"].all()
    assert (batch.user["history"] > 0).mean() > 0.99


def test_floats_are_never_negative_nor_one():
    items = synthesize(RECIPE, EVERYTHING, seed=0).items
    for name in ("price", "rate"):
        assert (items[name] >= 0).all()
        assert (items[name] < 1).all()
        assert len(np.unique(items[name])) > 100


def test_a_working_set_below_a_request_is_refused():
    with pytest.raises(UserError, match="working set of 20, but a request has 21"):
        synthesize(replace(RECIPE, candidates=Fixed(21), items=Side(20)), EVERYTHING, seed=0)


def test_without_a_signature_there_is_nothing_to_make_up():
    with pytest.raises(UserError, match="does not say its features"):
        make_workload(RECIPE, None)
