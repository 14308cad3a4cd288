"""The front against brute force over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.variants.front import beaten_by, dominates


def brute_force(points):
    """Points for which no other is at most as much in every cost, and not the same."""
    return {
        place
        for place, one in enumerate(points)
        if not ((points <= one).all(1) & (points != one).any(1)).any()
    }


@pytest.mark.parametrize("costs", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_other_beats_and_each_beaten_one_is_beaten_from_it(seed, costs):
    random = np.random.default_rng(seed)
    points = random.integers(0, 6, (int(random.integers(1, 15)), costs)).astype(float)  # with ties
    found = beaten_by({str(place): tuple(each) for place, each in enumerate(points)})
    front = brute_force(points)
    assert {int(name) for name, by in found.items() if by is None} == front
    for name, by in found.items():
        if by is not None:
            assert int(by) in front
            assert (points[int(by)] <= points[int(name)]).all()
            assert (points[int(by)] < points[int(name)]).any()


def test_what_costs_the_same_does_not_beat_each_other():
    assert beaten_by({"a": (1, 2), "b": (1, 2)}) == {"a": None, "b": None}
    assert not dominates((1, 2), (1, 2))
    assert dominates((1, 2), (1, 3))
    assert not dominates((0, 3), (1, 2))


def test_nothing_is_beaten_by_nothing():
    assert beaten_by({}) == {}
