"""What of a program can learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.finetuning.trainable import table_names, trainable_module, trainable_parameters
from rankers.errors import UserError


class Rewritten(nn.Module):
    """A matrix and a shift that a rewrite left as constants, and a table."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cut", torch.ones(2, 3))
        self.register_buffer("shift", torch.zeros(2))
        self.rows = nn.Parameter(torch.ones(5, 3))

    def forward(self, ids):
        return functional.linear(self.rows[ids], self.cut) + self.shift


@pytest.fixture
def program():
    return torch.export.export(Rewritten(), (torch.tensor([1, 2]),))


def test_a_constant_matrix_of_a_layer_learns_and_the_program_has_what_it_learnt(program):
    module = trainable_module(program)
    learn, stay = trainable_parameters(module)
    assert set(learn) == {"cut"}
    assert stay == {"rows": "a table"}
    with torch.no_grad():
        learn["cut"].mul_(3)
    assert program.module()(torch.tensor([0, 4])).tolist() == [[9.0, 9.0], [9.0, 9.0]]


def test_rows_that_are_looked_up_by_any_operator_are_a_table(program):
    assert table_names(trainable_module(program)) == {"rows"}
    assert table_names(nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 1))) == {"0.weight"}


def test_where_all_is_frozen_nothing_can_be_tuned(program):
    with pytest.raises(UserError, match="all parameters are frozen or tables"):
        trainable_parameters(trainable_module(program), frozen=("cut",))
