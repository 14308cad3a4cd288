"""One score a row out of tuples, dictionaries, dataclasses, output objects and tensors."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from rankers.adapters import Head, Product, WeightedSum
from rankers.errors import UserError

CTR, CVR = torch.tensor([0.5, 0.25]), torch.tensor([0.1, 0.8])
LOGITS = torch.tensor([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]])  # [rows, 3 labels]


@dataclass
class Output:
    ctr: torch.Tensor
    cvr: torch.Tensor


class Pair(NamedTuple):
    ctr: torch.Tensor
    cvr: torch.Tensor


class Returns(nn.Module):
    """Returns what it was made with, whatever it reads."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, item):
        return self.output


ITEM = torch.zeros(2)
PAIRS = {
    "tuple": (CTR, CVR),
    "list": [CTR.unsqueeze(1), CVR.unsqueeze(1)],
    "dictionary": {"ctr": CTR, "cvr": CVR},
    "dataclass": Output(CTR, CVR),
    "named tuple": Pair(CTR, CVR),
    "tensor": torch.stack([CTR, CVR], dim=1),
}
NAMED = ("dictionary", "dataclass", "named tuple")


class TestOneHead:
    @pytest.mark.parametrize("kind", PAIRS)
    @pytest.mark.parametrize("place", [1, -1])
    def test_by_its_place(self, kind, place):
        np.testing.assert_array_equal(Head(Returns(PAIRS[kind]), place)(item=ITEM), CVR)

    @pytest.mark.parametrize("kind", NAMED)
    def test_by_its_name(self, kind):
        np.testing.assert_array_equal(Head(Returns(PAIRS[kind]), "ctr")(item=ITEM), CTR)

    def test_of_a_transformers_output(self):
        from transformers.modeling_outputs import SequenceClassifierOutput

        output = SequenceClassifierOutput(logits=CTR.unsqueeze(1))
        np.testing.assert_array_equal(Head(Returns(output), "logits")(item=ITEM), CTR)
        np.testing.assert_array_equal(Head(Returns(output))(item=ITEM), CTR)

    @pytest.mark.parametrize("output", [CTR, CTR.unsqueeze(1)])
    def test_without_a_name_where_there_is_one_only(self, output):
        np.testing.assert_array_equal(Head(Returns(output))(item=ITEM), CTR)

    def test_a_column_of_it(self):
        module = Head(Returns({"logits": LOGITS}), ("logits", 2))
        np.testing.assert_array_equal(module(item=ITEM), [2.0, 0.5])


class TestActivations:
    def test_sigmoid_makes_a_probability_of_a_logit(self):
        module = Head(Returns(LOGITS), 1, activation="sigmoid")
        np.testing.assert_allclose(module(item=ITEM), 1 / (1 + np.exp([-1.0, 1.0])), rtol=1e-6)
        assert module.score == "probability"

    def test_softmax_is_over_the_columns_of_one_row(self):
        module = Head(Returns({"logits": LOGITS}), ("logits", 0), activation="softmax")
        odds = np.exp(LOGITS.numpy())
        np.testing.assert_allclose(module(item=ITEM), odds[:, 0] / odds.sum(1), rtol=1e-6)
        assert module.score == "probability"

    def test_without_one_only_the_order_is_known_to_mean_something(self):
        assert Head(Returns(CTR)).score == "relevance"


class TestSeveralHeads:
    @pytest.mark.parametrize("kind", NAMED)
    def test_a_product(self, kind):
        module = Product(Returns(PAIRS[kind]), "ctr", "cvr")
        np.testing.assert_allclose(module(item=ITEM), [0.05, 0.2], rtol=1e-6)
        assert module.score == "probability"

    def test_a_product_of_logits_is_one_of_their_probabilities(self):
        module = Product(Returns(LOGITS), 0, 1, activation="sigmoid")
        expected = torch.sigmoid(LOGITS[:, 0]) * torch.sigmoid(LOGITS[:, 1])
        np.testing.assert_allclose(module(item=ITEM), expected, rtol=1e-6)

    def test_a_weighted_sum(self):
        module = WeightedSum(Returns(PAIRS["dataclass"]), {"ctr": 2.0, "cvr": -0.5})
        np.testing.assert_allclose(module(item=ITEM), [0.95, 0.1], rtol=1e-6)
        assert module.score == "relevance"

    def test_a_weighted_sum_of_columns(self):
        module = WeightedSum(Returns({"all": LOGITS}), {("all", 0): 1.0, ("all", 2): 10.0})
        np.testing.assert_allclose(module(item=ITEM), [20.0, 8.0], rtol=1e-6)


class TestMistakesAreOneLine:
    @pytest.mark.parametrize(
        ("output", "head", "said"),
        [
            (PAIRS["dictionary"], "click", r"returns dict and no head 'click'; known: ctr, cvr"),
            (PAIRS["tuple"], 2, r"returns tuple and no head 2; known: 0, 1"),
            (PAIRS["tuple"], None, r"returns tuple and no head None; known: 0, 1"),
            (CTR, "ctr", r"no head 'ctr': the module returns one tensor of shape \(2,\)"),
            (LOGITS, 3, r"head 3 has shape \(2, 3\): it has no column 3"),
            (LOGITS, None, r"head None has shape \(2, 3\); expected one score a row: say which"),
            ({"logits": LOGITS}, "logits", r"head 'logits' has shape \(2, 3\); expected one score"),
            ({"logits": LOGITS}, ("logits", 5), r"it has no column 5"),
            ({"loss": 0.5, "logits": CTR}, "loss", r"head 'loss' is float; expected a tensor"),
        ],
    )
    def test_a_head_that_there_is_not(self, output, head, said):
        with pytest.raises(UserError, match=said):
            Head(Returns(output), head)(item=ITEM)

    @pytest.mark.parametrize("head", [None, "logits"])
    def test_a_softmax_of_no_column(self, head):
        with pytest.raises(UserError, match=r"a probability for each of its columns: say which"):
            Head(Returns(LOGITS), head, activation="softmax")

    def test_a_product_of_what_are_no_probabilities(self):
        with pytest.raises(UserError, match=r"head 1 runs from -1 to 1 and is no probability"):
            Product(Returns(LOGITS), 1, 0)(item=ITEM)

    def test_a_product_of_one(self):
        with pytest.raises(UserError, match="expected two or more"):
            Product(Returns(CTR), 0)

    def test_a_sum_of_none(self):
        with pytest.raises(UserError, match="expected a weight for each head"):
            WeightedSum(Returns(CTR), {})
