"""Rounding: what moved by it is put back, whatever the scores' size; nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from rankers.quality import quality_difference
from rankers.rounding import rounding, without_rounding

OFFSETS = np.arange(0, 651, 50)


def near_ties(seed):
    """Return 650 probabilities within 1e-4 of one half, and clicks."""
    random = np.random.default_rng(seed)
    scores = (0.5 + random.uniform(-5e-5, 5e-5, 650)).astype(np.float32)
    return scores, (random.random(650) < 0.5).astype(np.float32)


def test_rounding_of_near_ties_changes_the_auc_by_whole_pairs_and_by_none_once_put_back():
    scores, labels = near_ties(0)
    moved = np.nextafter(scores, np.where(np.arange(650) % 2, 1, 0), dtype=np.float32)
    raw = quality_difference(scores, moved, labels, OFFSETS, "probability", resamples=20)
    assert abs(raw["auc"].estimate) > 1e-6
    put_back = without_rounding(scores, moved, OFFSETS, "probability")
    np.testing.assert_array_equal(put_back, scores)


@pytest.mark.parametrize("kind", ["probability", "logit", "relevance"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-7])
def test_scores_of_any_size_that_are_set_to_a_constant_are_not_taken_for_rounded(kind, scale):
    random = np.random.default_rng(1)
    scores = (random.random(650) * scale).astype(np.float32)
    constant = np.full_like(scores, scores.mean())
    found = without_rounding(scores, constant, OFFSETS, kind)
    assert (found != scores).mean() > 0.99


@pytest.mark.parametrize("kind", ["probability", "logit", "relevance"])
def test_a_part_in_ten_million_is_rounding_and_a_part_in_a_hundred_is_not(kind):
    random = np.random.default_rng(2)
    scores = random.uniform(0.05, 0.95, 650).astype(np.float32)
    slightly = (scores * (1 + 1e-7)).astype(np.float32)
    np.testing.assert_array_equal(without_rounding(scores, slightly, OFFSETS, kind), scores)
    well = (scores * 1.01).astype(np.float32)
    np.testing.assert_array_equal(without_rounding(scores, well, OFFSETS, kind), well)


def test_a_saturated_probability_may_move_by_the_steps_of_its_type():
    scores = np.full(50, 1 - 2**-23, np.float32)
    one = np.ones(50, np.float32)
    np.testing.assert_array_equal(
        without_rounding(scores, one, np.array([0, 50]), "probability"), scores
    )


def test_users_far_apart_do_not_hide_what_tells_their_candidates_apart():
    random = np.random.default_rng(3)
    within = random.normal(0, 1e-3, 650)
    scores = (np.repeat(random.normal(0, 100, 13), 50) + within).astype(np.float64)
    swapped = scores - 2 * within
    found = without_rounding(scores, swapped, OFFSETS, "relevance")
    assert (found == swapped).mean() > 0.99


def test_requests_of_one_candidate_are_compared_over_all_rows():
    scores = np.linspace(0.1, 0.9, 40)
    allowed = rounding(scores, np.arange(41), "relevance")
    assert np.all((allowed > 1e-6) & (allowed < 1e-4))
