import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tiny_ranker import SIGNATURE

from client.columns import ranking_request
from rankers.requests import RequestError

USER = {"user_id": 7, "history": [1, 2, 3], "context": [0.1, 0.2, 0.3, 0.4]}
ITEMS = {"item_id": [5, 6], "price": [[1.0, 2.0], [3.0, 4.0]], "not_read": ["a", "b"]}


@pytest.mark.parametrize(
    "items",
    [
        ITEMS,
        {name: np.array(column) for name, column in ITEMS.items()},
        pd.DataFrame(ITEMS),
        pa.table(ITEMS),
    ],
    ids=["lists", "arrays", "pandas", "arrow"],
)
def test_columns_of_any_kind_become_the_request(items):
    request = ranking_request(SIGNATURE, USER, items)
    request.check(SIGNATURE)
    np.testing.assert_array_equal(request.items["item_id"], [5, 6])
    np.testing.assert_array_equal(request.items["price"], np.float32([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(request.user["history"], [[1, 2, 3]])
    np.testing.assert_array_equal(request.user["context"], np.float32([[0.1, 0.2, 0.3, 0.4]]))


@pytest.mark.parametrize(
    ("user", "items", "said"),
    [
        ({}, {"item_id": ["a", "b"]}, r"'item_id' has values such as 'a'; expected int64.*Encoder"),
        ({}, {"item_id": [1.5, 2.0]}, "'item_id' has float64 values that are not int64"),
        (
            {},
            {"item_id": np.array([2**63, 1], np.uint64)},
            "'item_id' has uint64 values that are not int64",
        ),
        ({}, {"item_id": [[1], [2]]}, r"'item_id' has rows of shape \(1,\); expected \(\)"),
        ({}, {"price": [[1.0], [2.0, 3.0]]}, r"'price' has rows of different lengths.*\(2,\)"),
        ({}, {"item_id": [1, 2, 3]}, "different lengths: 'item_id' has 3, 'price' has 2"),
        ({}, {"item_id": 5}, "one value a candidate; got 5"),
        ({}, {"item_id": None}, "one value a candidate; got None"),
        ({"history": [1, 2]}, {}, r"'history' has rows of shape \(2,\); expected \(3,\)"),
        ({"user_id": None}, {}, "'user_id' has values such as None"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(user, items, said):
    with pytest.raises(RequestError, match=said):
        ranking_request(SIGNATURE, USER | user, ITEMS | items)


def test_a_missing_feature_is_named_with_the_nearest():
    items = {"item_idd": [1, 2], "price": ITEMS["price"]}
    with pytest.raises(RequestError, match=r"item feature 'item_id' is missing; did you mean 'it"):
        ranking_request(SIGNATURE, USER, items)
    with pytest.raises(RequestError, match="item feature 'price' is missing"):
        ranking_request(SIGNATURE, USER, pa.table({"item_id": [1, 2]}))
