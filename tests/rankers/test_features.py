from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rankers.errors import UserError, nearest
from rankers.features import Feature, Signature


def test_a_signature_survives_json(signature):
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


def test_sides_keep_the_signatures_order(signature):
    assert [each.name for each in signature.user] == ["age", "country"]
    assert [each.name for each in signature.item] == ["picture", "brand", "tags"]


def test_width_is_the_number_of_values_in_a_row(signature):
    assert [each.width for each in signature.features] == [1, 1, 6, 1, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "two words"}, "not a Python identifier"),
        ({"dtype": "int63"}, "did you mean 'int64'"),
        ({"side": "both"}, "it is 'user' or 'item'"),
        ({"shape": (0,)}, "sizes are 1 or more"),
        ({"padding": 0}, "padding belongs to integers of shape"),
        ({"dtype": "float32", "shape": (3,), "padding": 0}, "padding belongs to integers"),
        ({"shape": (3,), "padding": 9, "cardinality": 9}, "one of the IDs 0 to 8"),
        ({"cardinality": 0}, "a cardinality is 1 or more"),
        ({"dtype": "float32", "cardinality": 5}, "belongs to an integer feature"),
    ],
)
def test_a_feature_that_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Feature(**({"name": "brand", "dtype": "int64"} | options))


def test_a_signature_names_each_feature_once():
    with pytest.raises(UserError, match="'a' is named twice"):
        Signature((Feature("a", "int64"), Feature("a", "float32")))


def test_a_signature_needs_an_item_feature():
    with pytest.raises(UserError, match="at least one item feature"):
        Signature((Feature("a", "int64", side="user"),))


def test_an_unknown_score_kind_is_refused():
    with pytest.raises(UserError, match="did you mean 'probability'"):
        Signature((Feature("a", "int64"),), "probabilty")


def test_names_that_are_no_longer_read_survive_json_and_are_left_out_where_there_are_none(
    signature,
):
    less = replace(signature, ignored=("colour",))
    assert Signature.from_json(json.loads(json.dumps(less.to_json()))) == less
    assert "ignored" not in signature.to_json()


def test_a_feature_is_not_both_read_and_ignored(signature):
    with pytest.raises(UserError, match="'brand' is both read and ignored"):
        replace(signature, ignored=("brand",))


def test_an_unknown_feature_is_answered_with_the_nearest(signature):
    with pytest.raises(UserError, match="unknown feature 'brandd'; did you mean 'brand'"):
        signature.feature("brandd")


@pytest.mark.parametrize(
    ("name", "known", "answer"),
    [
        ("C13", ["C12", "dense"], "did you mean 'C12'?"),
        ("zzz", ["a", "b"], "known: a, b"),
        ("zzz", [], "there are none"),
        (
            "zzz",
            [f"a{i:02}" for i in range(13)],
            "known: a00, a01, a02, a03, a04, a05, a06, a07, a08, a09, a10, a11, …",
        ),
    ],
)
def test_nearest_says_how_to_go_on(name, known, answer):
    assert nearest(name, known) == answer
