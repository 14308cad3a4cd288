"""What stands in a feature's place, and the graph that it was put into."""

from __future__ import annotations

from dataclasses import replace

import field_rankers
import numpy as np
import pytest

from optimize.capture import capture
from optimize.fields.constants import constants
from optimize.fields.dropping import drop_field
from optimize.fields.reading import frontier, score_with
from optimize.tables.program import open_program

SIGNATURE = field_rankers.SIGNATURE


@pytest.fixture(scope="module")
def captured(store):
    return capture(field_rankers.fields(), store, candidates=(1, 5))


@pytest.fixture
def graph(captured):
    return open_program(captured)


@pytest.fixture(scope="module")
def requests():
    """Return requests in which half of all users have one colour and one item lately."""
    batch = field_rankers.requests(30, 5)
    often = batch.user["recent"].copy()
    often[:, 0], often[::2] = 5, 7
    return replace(batch, user=batch.user | {"recent": often})


def of(graph, requests, name):
    reference = score_with(graph, requests)
    found = constants(graph, SIGNATURE.feature(name), requests, reference)
    return {each.kind: each for each in found}, reference


def test_each_moves_scores_as_far_as_it_says_and_the_least_comes_first(graph, requests):
    """The ranker itself is asked, with the value in the place of every request's own."""
    found, reference = of(graph, requests, "recent")
    score = field_rankers.fields().score
    for kind, row in (("most frequent", [7, 7, 7, 7]), ("empty", [0, 0, 0, 0])):
        same = np.tile(row, (len(requests), 1))
        replaced = score(replace(requests, user=requests.user | {"recent": same}).flat())
        change = np.abs(replaced - reference).mean() / reference.std()
        assert found[kind].change == pytest.approx(change, rel=1e-3)
    changes = [each.change for each in found.values()]
    assert changes == sorted(changes)


def test_numbers_have_a_mean_weighted_by_candidates(graph, requests):
    found, _ = of(graph, requests, "mood")
    assert "mean" in found
    (node,) = frontier(graph, "mood")
    mean = (requests.user["mood"] * requests.candidates[:, None]).sum(0) / requests.rows
    held = found["mean of what is made of it"].values[node]
    np.testing.assert_allclose(held[0].numpy()[:2], mean, atol=1e-6)


@pytest.mark.parametrize("name", ["recent", "item", "price"])
def test_the_graph_without_the_column_scores_with_the_constant(graph, requests, name):
    """How many rows there are is read of the item's column, which may be the one that goes."""
    found, _ = of(graph, requests, name)
    constant = next(iter(found.values()))
    expected = score_with(graph, requests, [constant.values])
    smaller, saved = drop_field(graph, constant)
    assert name not in smaller.names
    assert len(smaller.placeholders) == len(SIGNATURE.features) - 1
    np.testing.assert_allclose(score_with(smaller, requests), expected, atol=1e-6)
    assert saved <= 0  # the item's table is read for what is recent too
