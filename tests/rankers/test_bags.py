from __future__ import annotations

import numpy as np
import pytest

from rankers.bags import bag_sizes, pad_bags
from rankers.errors import UserError
from rankers.features import Feature

TAGS = Feature("tags", "int64", (3,), cardinality=10, padding=0)


def test_a_short_bag_ends_in_padding():
    rows = pad_bags([[5], [], [1, 2, 3]], TAGS)
    assert rows.dtype == np.int64
    assert rows.tolist() == [[5, 0, 0], [0, 0, 0], [1, 2, 3]]
    assert bag_sizes(rows, 0).tolist() == [1, 0, 3]


@pytest.mark.parametrize(("keep", "expected"), [("last", [2, 3, 4]), ("first", [1, 2, 3])])
def test_a_long_bag_keeps_the_asked_end(keep, expected):
    assert pad_bags([[1, 2, 3, 4]], TAGS, keep=keep).tolist() == [expected]


def test_no_bags_make_no_rows():
    assert pad_bags([], TAGS).shape == (0, 3)


def test_the_padding_cannot_be_an_id_of_a_bag():
    with pytest.raises(UserError, match="'tags' row 1 holds the ID 0, which is its padding"):
        pad_bags([[1], [2, 0]], TAGS)


def test_a_feature_without_padding_holds_no_bags():
    with pytest.raises(UserError, match="'item' has no padding"):
        pad_bags([[1]], Feature("item", "int64", cardinality=10))
