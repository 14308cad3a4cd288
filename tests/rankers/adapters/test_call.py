"""A module gets a ranker's features as it wants them; what does not fit is said in one line."""

import numpy as np
import pytest
import torch
from torch import nn

from rankers.adapters import Argument, Call, Dictionary, Listed
from rankers.errors import UserError

COLUMNS = {"user": torch.tensor([1.0, 2.0]), "item": torch.tensor([10.0, 20.0])}


class Difference(nn.Module):
    """Tells its arguments apart."""

    def forward(self, left, right, scale=1.0):
        return (left - right) * scale


class FromDictionary(nn.Module):
    def forward(self, features):
        return features["uid"] - features["item"]


class FromList(nn.Module):
    def forward(self, inputs):
        return inputs[0] - inputs[1]


class FromAnything(nn.Module):
    def forward(self, **features):
        return features["uid"] - features["item"]


class TestFeaturesBecomeArguments:
    @pytest.mark.parametrize(
        "call",
        [
            Call(Difference(), "user", "item"),
            Call(Difference(), right="item", left="user"),
            Call(Difference(), "user", right="item"),
            Call(FromDictionary(), Dictionary("item", uid="user")),
            Call(FromDictionary(), features=Dictionary("item", uid="user")),
            Call(FromList(), Listed("user", "item")),
            Call(FromAnything(), uid="user", item="item"),
        ],
        ids=lambda call: type(call.module).__name__,
    )
    def test_by_position_by_name_in_a_dictionary_or_a_list(self, call):
        np.testing.assert_array_equal(call(**COLUMNS).numpy(), [-9.0, -18.0])

    def test_arguments_nest(self):
        class Deep(nn.Module):
            def forward(self, inputs):
                return inputs["pair"][0] - inputs["pair"][1]

        call = Call(Deep(), Dictionary(pair=Listed("user", "item")))
        assert call.reads == ("user", "item")
        np.testing.assert_array_equal(call(**COLUMNS).numpy(), [-9.0, -18.0])

    def test_one_feature_may_be_read_twice(self):
        call = Call(Difference(), "user", "user")
        np.testing.assert_array_equal(call(user=COLUMNS["user"]).numpy(), [0.0, 0.0])

    def test_the_modules_weights_are_the_modules(self):
        inner = nn.Linear(3, 1)
        call = Call(inner, "x")
        assert call.module is inner
        assert {id(each) for each in call.parameters()} == {id(each) for each in inner.parameters()}

    def test_a_person_can_write_an_argument(self):
        class Doubled(Argument):
            reads = ("user",)

            def make(self, columns):
                return columns["user"] * 2

        call = Call(Difference(), Doubled(), "item")
        np.testing.assert_array_equal(call(**COLUMNS).numpy(), [-8.0, -16.0])


class TestMistakesAreOneLine:
    def test_an_argument_that_forward_does_not_take(self):
        with pytest.raises(UserError, match=r"forward takes no argument 'rihgt'; did you mean 'ri"):
            Call(Difference(), "user", rihgt="item")

    def test_an_argument_that_is_missing(self):
        with pytest.raises(UserError, match=r"forward\(left, right, scale\) cannot.*'right'"):
            Call(Difference(), "user")

    def test_too_many_arguments(self):
        with pytest.raises(UserError, match="too many positional arguments"):
            Call(FromList(), "user", "item")

    def test_an_argument_given_twice(self):
        with pytest.raises(UserError, match="multiple values for argument 'left'"):
            Call(Difference(), "user", "item", left="user")

    def test_a_feature_that_the_signature_lacks(self):
        call = Call(Difference(), "user", "itme")
        with pytest.raises(UserError, match=r"feature 'itme', which.*; did you mean 'item'\?"):
            call(**COLUMNS)

    def test_a_feature_that_nothing_reads(self):
        call = Call(Difference(), "user", "user")
        with pytest.raises(UserError, match="Difference is not called with feature 'item'"):
            call(**COLUMNS)

    def test_a_key_given_twice(self):
        with pytest.raises(UserError, match="each once"):
            Dictionary("item", item="user")
