from __future__ import annotations

import numpy as np
import pytest

from rankers.errors import UserError
from rankers.hashing import hash_ids


def test_a_value_has_the_same_id_wherever_it_comes():
    together = hash_ids(["a", "b", "a", None, ""], 1000, salt="tags")
    assert together[0] == together[2]
    assert together[3] == together[4] == 0
    assert hash_ids(["b"], 1000, salt="tags")[0] == together[1]


def test_ids_are_those_of_every_release():
    # Trained tables are addressed by them: they may never change.
    assert hash_ids(["68fd1e64", "ü"], 10_000, salt="C1").tolist() == [3779, 6951]


def test_ids_spread_over_the_buckets():
    ids = hash_ids([str(each) for each in range(20_000)], 100, salt="x")
    counts = np.bincount(ids, minlength=101)
    assert counts[0] == 0
    assert counts[1:].min() > 130
    assert counts[1:].max() < 270


def test_a_value_means_something_else_in_another_feature():
    assert (
        hash_ids(list("abcdef"), 10**6, salt="x") != hash_ids(list("abcdef"), 10**6, salt="y")
    ).all()


def test_buckets_are_needed():
    with pytest.raises(UserError, match="0 buckets were asked for"):
        hash_ids(["a"], 0, salt="x")
