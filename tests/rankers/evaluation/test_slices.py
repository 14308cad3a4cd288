from __future__ import annotations

import numpy as np
import pytest

from rankers.errors import UserError
from rankers.evaluation.slices import cut_slice, usual_slices
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch
from rankers.seen import count_ids, load_counts, save_counts

SIGNATURE = Signature(
    (
        Feature("user_id", "int64", (), "user", 5),
        Feature("history", "int64", (3,), "user", 9, padding=0),
        Feature("item", "int64", (), "item", 9),
        Feature("tags", "int64", (2,), "item", 4, padding=0),
        Feature("price", "float32"),
        Feature("place", "float32", (2,)),
    )
)
REQUESTS = RequestBatch(
    user={
        "user_id": np.array([0, 1, 2, 1]),
        "history": np.array([[0, 0, 0], [1, 0, 0], [1, 2, 0], [1, 2, 3]]),
    },
    items={
        "item": np.array([1, 2, 3, 1, 2, 8]),
        "tags": np.array([[1, 0], [2, 1], [0, 0], [3, 2], [1, 3], [2, 0]]),
        "price": np.array([0, 1, 2, 3, 4, 5], dtype=np.float32),
        "place": np.arange(12, dtype=np.float32).reshape(6, 2),
    },
    offsets=np.array([0, 1, 3, 4, 6]),
    labels=np.array([1, 0, 1, 0, 1, 0], dtype=np.float32),
)
SEEN = {"item": np.arange(9) * 5, "user_id": np.array([0, 50, 9, 0, 0])}


@pytest.mark.parametrize(
    ("spec", "name", "rows"),
    [
        ("rare", "rare:item<10", [0, 3]),
        ("rare:item<11", "rare:item<11", [0, 1, 3, 4]),
        ("cold", "cold:user_id<10", [0, 3]),
        ("cold<51", "cold:user_id<51", [0, 1, 2, 3, 4, 5]),
        ("cold:history<2", "cold:history<2", [0, 1, 2]),
        ("long", "long:history>=3", [4, 5]),
        ("long:history>=2", "long:history>=2", [3, 4, 5]),
        ("long:history>=50%", "long:history>=2", [3, 4, 5]),
        ("rare:item<40%", "rare:item<11", [0, 1, 3, 4]),
        ("cold<20%", "cold:user_id<1", [0]),
        ("few", "few<2", [0, 3]),
        ("many", "many>=2", [1, 2, 4, 5]),
        ("few<1", "few<1", []),
        ("many>=90%", "many>=2", [1, 2, 4, 5]),
        ("item=2", "item=2", [1, 4]),
        ("user_id=1", "user_id=1", [1, 2, 4, 5]),
        ("tags=2", "tags=2", [1, 3, 5]),
        ("price=1..3", "price=1..3", [1, 2, 3]),
        ("price=..0.5", "price=..0.5", [0]),
        ("price=80%..", "price=80%..", [4, 5]),
        ("price=0%..20%", "price=0%..20%", [0, 1]),
        ("place[1]=7..", "place[1]=7..", [3, 4, 5]),
    ],
)
def test_a_slice_holds_the_candidates_it_says(spec, name, rows):
    found = cut_slice(spec, REQUESTS, SIGNATURE, SEEN)
    assert found.name == name
    assert np.flatnonzero(found.rows).tolist() == rows


def test_without_counts_of_training_ids_are_counted_in_the_evaluation_and_it_says_so():
    found = cut_slice("rare:item<2", REQUESTS, SIGNATURE)
    assert np.flatnonzero(found.rows).tolist() == [2, 5]  # items 3 and 8 come once
    assert "in fewer than 2 candidates of the evaluation itself (no counts" in found.about
    known = cut_slice("rare:item<2", REQUESTS, SIGNATURE, SEEN)
    assert known.about == "item in fewer than 2 candidates of training"


def test_the_usual_slices_are_those_that_the_features_allow():
    assert usual_slices(SIGNATURE) == ("rare", "cold", "long")
    assert usual_slices(Signature((Feature("price", "float32"),))) == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rare:user_id", "rare:user_id: the feature is not an item's ID with a cardinality"),
        ("rare:price", "rare:price: the feature is not an item's ID"),
        ("cold:item", "cold:item: the feature is not a user's ID"),
        ("long:item", "long:item: the feature is not a user's bag or history"),
        ("rare:item>=3", "it is rare, cold or long with :FEATURE and <N"),
        ("rare!", "slice 'rare!' is not understood; it is rare"),
        ("prize=3", "unknown feature 'prize'; did you mean 'price'"),
        ("price=cheap", "'cheap' is not a number"),
        ("price=0%..120%", "120% is not a quantile"),
        ("place=1", r"'place' has 2 values a row; name a place: place\[0\]"),
        ("place[2]=1", "'place' has places 0 to 1"),
        ("tags=1..2", "a range is of numbers; slice a bag by one ID"),
    ],
)
def test_a_slice_that_cannot_be_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        cut_slice(spec, REQUESTS, SIGNATURE)


def test_nothing_is_rare_of_a_feature_that_is_not_there():
    with pytest.raises(UserError, match="slice 'cold': no feature is a user's ID"):
        cut_slice("cold", REQUESTS, Signature((Feature("price", "float32"),)))


def test_ids_are_counted_by_request_and_by_candidate(tmp_path):
    counts = count_ids(REQUESTS, SIGNATURE)
    assert counts["user_id"].tolist() == [1, 2, 1, 0, 0]
    assert counts["item"].tolist() == [0, 2, 2, 1, 0, 0, 0, 0, 1]
    assert set(counts) == {"user_id", "item"}
    save_counts(counts, tmp_path / "seen.safetensors")
    loaded = load_counts(tmp_path / "seen.safetensors")
    assert loaded["item"].tolist() == counts["item"].tolist()
