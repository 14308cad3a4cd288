from __future__ import annotations

import pytest
import torch
from torch import nn

from rankers.features import Feature, Signature
from rankers.zoo.layers import FeatureEmbedding, dense_vector, inputs_of, pool

SIGNATURE = Signature(
    (
        Feature("price", "float32"),
        Feature("item", "int64", cardinality=7),
        Feature("tags", "int64", (4,), cardinality=9, padding=0),
    )
)


def test_inputs_tell_ids_from_floats():
    assert inputs_of(SIGNATURE.features) == {
        "ids": {
            "item": {"cardinality": 7, "padding": None},
            "tags": {"cardinality": 9, "padding": 0},
        },
        "dense": {"price": 1},
    }


@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_a_pooled_bag_is_an_embedding_bags(pooling):
    torch.manual_seed(0)
    embedding = FeatureEmbedding(inputs_of(SIGNATURE.features)["ids"], 5, pooling=pooling)
    tags = torch.tensor([[1, 2, 2, 0], [3, 0, 0, 0], [0, 0, 0, 0], [4, 5, 6, 7]])
    _, pooled = embedding({"item": torch.tensor([0, 1, 2, 3]), "tags": tags})
    bag = nn.EmbeddingBag.from_pretrained(
        embedding.tables["tags"].weight.detach(), mode=pooling, padding_idx=0
    )
    torch.testing.assert_close(pooled.detach(), bag(tags))


def test_an_empty_bag_gives_zeros():
    rows = torch.ones(1, 3, 2)
    assert pool(rows, torch.zeros(1, 3, dtype=torch.bool), "mean").tolist() == [[0.0, 0.0]]


def test_dense_features_stand_side_by_side():
    columns = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0, 4.0], [5.0, 6.0]])}
    assert dense_vector(columns, ["a", "b"]).tolist() == [[1, 3, 4], [2, 5, 6]]
    assert dense_vector(columns, []) is None
