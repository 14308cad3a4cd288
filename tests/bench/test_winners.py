from __future__ import annotations

import numpy as np
import pytest

from bench.measure import Load
from bench.winners import find_winner, rounds_that_tell
from rankers.errors import UserError


def rounds_of(factors, rounds=20, count=50, seed=0):
    """Draw latencies of targets that differ by factors, on a machine whose speed drifts."""
    random = np.random.default_rng(seed)
    drift = np.exp(np.cumsum(random.normal(0, 0.1, rounds)))
    return [
        [factor * level * random.gamma(4.0, 1e-3, count) for level in drift] for factor in factors
    ]


def test_the_fastest_of_different_targets_is_found():
    winner = find_winner(rounds_of([1.5, 1.0, 2.0]), ["a", "b", "c"], 0.5)
    assert winner.fastest == "b"
    assert winner.sure
    assert winner.ratio == pytest.approx(1.5, rel=0.15)
    assert winner.text.startswith("b (1.")


def test_targets_alike_are_named_instead():
    winner = find_winner(rounds_of([1.0, 1.0, 3.0]), ["a", "b", "c"], 0.5)
    assert set(winner.alike) | {winner.fastest} == {"a", "b"}
    assert not winner.sure
    assert winner.text.startswith("cannot tell: ")


def test_among_equals_a_winner_is_seldom_declared():
    declared = sum(
        find_winner(rounds_of([1.0] * 4, seed=seed), list("abcd"), 0.5).sure for seed in range(60)
    )
    assert declared <= 6  # at 5 %, more than 6 of 60 come about once in 30 such tests


def test_too_few_requests_tell_nothing_of_a_percentile():
    few = rounds_of([1.0, 2.0], rounds=10, count=5)
    assert find_winner(few, ["a", "b"], 0.99) is None
    assert find_winner(few, ["a", "b"], 0.5) is not None


def test_rounds_are_enough_to_tell():
    assert rounds_that_tell(Load(count=100), 4, None) == 10
    assert rounds_that_tell(Load(count=100), 24, None) == 16
    assert rounds_that_tell(Load(count=2000), 4, None) == 40
    with pytest.raises(UserError, match="5 rounds of 4 targets tell no winner; give 10 or more"):
        rounds_that_tell(Load(), 4, 5)
