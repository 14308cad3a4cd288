"""One float matrix of all features: in order, exact, or refused."""

import numpy as np
import pytest
import torch
from torch import nn

from rankers.adapters import Call, PackedMatrix, deepctr_features
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

EXACT = 2**24

FEATURES = (
    Feature("user", "int64", side="user", cardinality=50),
    Feature("prices", "float32", (2,)),
    Feature("tags", "int64", (3,), cardinality=9, padding=0),
)
COLUMNS = {
    "user": torch.tensor([4, 7]),
    "prices": torch.tensor([[0.5, 1.5], [2.5, 3.5]]),
    "tags": torch.tensor([[1, 2, 0], [3, 0, 0]]),
}


class Sum(nn.Module):
    def forward(self, matrix):
        return matrix.sum(1)


class TestTheMatrix:
    def test_features_stand_in_their_order(self):
        matrix = PackedMatrix(FEATURES).make(COLUMNS)
        assert matrix.dtype == torch.float32
        np.testing.assert_array_equal(matrix, [[4, 0.5, 1.5, 1, 2, 0], [7, 2.5, 3.5, 3, 0, 0]])

    def test_columns_say_where_they_stand(self):
        columns = {"user": (5, 6), "tags": (0, 3), "prices": (3, 5)}
        matrix = PackedMatrix(FEATURES, columns).make(COLUMNS)
        np.testing.assert_array_equal(matrix, [[1, 2, 0, 0.5, 1.5, 4], [3, 0, 0, 2.5, 3.5, 7]])

    def test_it_may_be_float64(self):
        many = Feature("item", "int64", cardinality=EXACT * 8)
        matrix = PackedMatrix([many], dtype="float64").make({"item": torch.tensor([EXACT + 1])})
        assert matrix.dtype == torch.float64
        assert int(matrix) == EXACT + 1


class TestIdsThatAFloatCannotHold:
    def test_the_last_one_it_can_is_taken(self):
        largest = Feature("item", "int64", cardinality=EXACT + 1)  # IDs 0 to 2^24
        matrix = PackedMatrix([largest]).make({"item": torch.tensor([EXACT, EXACT - 1])})
        np.testing.assert_array_equal(matrix.long().squeeze(1), [EXACT, EXACT - 1])

    def test_a_larger_cardinality_is_refused(self):
        with pytest.raises(UserError, match=r"'item' has IDs up to 16,777,217, and float32 tells"):
            PackedMatrix([Feature("item", "int64", cardinality=EXACT + 2)])

    def test_without_a_cardinality_a_larger_value_is_refused_when_it_is_scored(self):
        module = Call(Sum(), PackedMatrix([Feature("item", "int64")]))
        ranker = Ranker(
            "odd",
            module,
            Signature((Feature("item", "int64"),)),
            RequestBatch({}, {"item": np.array([5, EXACT + 1])}, np.array([0, 2]), np.ones(2)),
        )
        with pytest.raises(UserError, match=r"^ranker 'odd': feature 'item' holds 16,777,217, and"):
            ranker.score(ranker.evaluation.flat())

    @pytest.mark.parametrize("value", [EXACT, -EXACT])
    def test_a_value_that_is_exact_is_scored(self, value):
        matrix = PackedMatrix([Feature("item", "int64")]).make({"item": torch.tensor([value])})
        assert int(matrix) == value


class TestMistakesAreOneLine:
    def test_a_column_of_no_feature(self):
        columns = {"user": (0, 1), "prices": (1, 3), "tags": (3, 6), "age": (6, 7)}
        with pytest.raises(UserError, match=r"columns 6 to 6 of the matrix are feature 'age'"):
            PackedMatrix(FEATURES, columns)

    def test_a_feature_of_no_column(self):
        with pytest.raises(UserError, match=r"the matrix has no feature 'tags'; known: prices"):
            PackedMatrix(FEATURES, {"user": (0, 1), "prices": (1, 3)})

    def test_a_feature_of_another_width(self):
        columns = {"user": (0, 1), "prices": (1, 2), "tags": (2, 5)}
        with pytest.raises(UserError, match=r"'prices' is 2 wide, and its columns are 1 to 1"):
            PackedMatrix(FEATURES, columns)

    def test_a_column_of_another_shape(self):
        with pytest.raises(UserError, match="'prices' is 3 wide; its place in the matrix is 2"):
            PackedMatrix(FEATURES).make(COLUMNS | {"prices": torch.zeros(2, 3)})


class TestFeaturesOfDeepCtrColumns:
    def test_every_kind_of_column_becomes_a_feature(self):
        from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat

        columns = [
            SparseFeat("user", 50),
            DenseFeat("age", 1),
            DenseFeat("prices", 2),
            VarLenSparseFeat(SparseFeat("past", 9), 3, length_name="past_size"),
            SparseFeat("user", 50),
        ]
        assert deepctr_features(columns, user=["user", "past", "past_size"]) == (
            Feature("user", "int64", side="user", cardinality=50),
            Feature("age", "float32"),
            Feature("prices", "float32", (2,)),
            Feature("past", "int64", (3,), side="user", cardinality=9, padding=0),
            Feature("past_size", "int64", side="user", cardinality=4),
        )

    def test_they_stand_where_the_package_puts_them(self):
        from deepctr_torch.inputs import (
            DenseFeat,
            SparseFeat,
            VarLenSparseFeat,
            build_input_features,
        )

        columns = [
            VarLenSparseFeat(SparseFeat("past", 9), 3, length_name="past_size"),
            DenseFeat("prices", 2),
            SparseFeat("user", 50),
        ]
        features = deepctr_features(columns)
        assert (
            PackedMatrix(features).reads
            == PackedMatrix(features, build_input_features(columns)).reads
        )

    def test_a_user_feature_that_there_is_not_is_one_line(self):
        from deepctr_torch.inputs import SparseFeat

        with pytest.raises(UserError, match=r"no feature column 'usr'.*did you mean 'user'"):
            deepctr_features([SparseFeat("user", 50)], user=["usr"])

    def test_what_is_no_column_is_one_line(self):
        with pytest.raises(UserError, match="'user' is no feature column; expected SparseFeat"):
            deepctr_features(["user"])
