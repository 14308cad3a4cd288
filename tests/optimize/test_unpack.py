"""A matrix of all features that is sliced apart again: its graph reads the features themselves."""

import numpy as np
import torch
from torch import nn

from optimize.diagnosis.diagnose import diagnose
from optimize.diagnosis.ids import table_features
from optimize.diagnosis.trace import operator_name, trace_ranker
from optimize.unpack import unpack_columns
from rankers.adapters import Call, PackedMatrix
from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

FEATURES = (
    Feature("user", "int64", side="user", cardinality=50),
    Feature("prices", "float32", (2,)),
    Feature("tags", "int64", (3,), cardinality=9, padding=0),
    Feature("item", "int64", cardinality=30),
)


class Packed(nn.Module):
    """Slices in all the ways there are: from both ends, across two features, without a start."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.users, self.tags = nn.Embedding(50, 4), nn.Embedding(9, 4)
        self.items, self.both = nn.Embedding(30, 4), nn.Embedding(30, 4)
        self.tower = nn.Linear(4, 4)

    def forward(self, matrix):
        user = self.tower(self.users(matrix[:, :1].long()).squeeze(1))
        tags = self.tags(matrix[:, 3:6].long()).sum(1)
        item = self.items(matrix[:, -1:].long()).squeeze(1)
        both = self.both(matrix[:, 5:].long()).sum(1)  # the last tag, and the item
        return torch.sigmoid((user * (tags + item + both)).sum(1) + matrix[:, 1:3].sum(1))


def packed_ranker():
    random = np.random.default_rng(0)
    batch = RequestBatch(
        {"user": random.integers(0, 50, 20)},
        {
            "prices": random.standard_normal((200, 2)).astype(np.float32),
            "tags": random.integers(0, 9, (200, 3)),
            "item": random.integers(0, 30, 200),
        },
        np.arange(21) * 10,
        random.integers(0, 2, 200).astype(np.float32),
    )
    return Ranker("packed", Call(Packed(), PackedMatrix(FEATURES)), Signature(FEATURES), batch)


def exported(module, *columns):
    """Export a module over two columns, and rewrite it."""
    rows = torch.export.Dim("rows", min=1)
    with torch.no_grad():
        program = torch.export.export(module.eval(), columns, dynamic_shapes=({0: rows},) * 2)
    replaced = unpack_columns(program)
    names = [operator_name(node) for node in program.graph.nodes if node.op == "call_function"]
    return program, replaced, names


ROWS = (torch.arange(12.0).reshape(6, 2), torch.arange(18.0).reshape(6, 3) / 7)


def check_alike(module, program):
    for rows in (1, 6):
        given = tuple(each[:rows].clone() for each in ROWS)
        expected = module(*(each.clone() for each in given))
        torch.testing.assert_close(program.module()(*given), expected, rtol=0, atol=0)


class TestSlicesOfWholeColumns:
    def test_they_are_read_themselves(self):
        class Whole(nn.Module):
            def forward(self, left, right):
                matrix = torch.cat([left, right, left], dim=-1)[:]
                zeros = torch.zeros(matrix.shape[0])
                return matrix[:, :2].sum(1) + matrix[:, 2:-2].prod(1) + matrix[:, 2:].sum(1) + zeros

        program, replaced, names = exported(Whole(), *ROWS)
        assert replaced == 3
        assert "aten.slice" not in names
        assert names.count("aten.cat") == 1  # the last two parts
        check_alike(Whole(), program)

    def test_others_are_left_as_they_are(self):
        class Parts(nn.Module):
            def forward(self, left, right):
                matrix = torch.cat([left, right], dim=1)
                return matrix[:, 1:4].sum(1) + matrix[:, ::2].sum(1)

        program, replaced, _ = exported(Parts(), *ROWS)
        assert replaced == 0
        check_alike(Parts(), program)

    def test_what_is_written_in_place_is_left_as_it_is(self):
        class Writes(nn.Module):
            def forward(self, left, right):
                left = left * 1
                matrix = torch.cat([left, right], dim=1)
                left.add_(100)  # after it was copied into the matrix
                return matrix[:, :2].sum(1)

        class WritesThroughASlice(nn.Module):
            def forward(self, left, right):
                matrix = torch.cat([left, right], dim=1)
                matrix[:, :2].squeeze(0).mul_(3)
                return matrix.sum(1) + left.sum(1)

        for module in (Writes(), WritesThroughASlice()):
            program, replaced, _ = exported(module, *ROWS)
            assert replaced == 0
            check_alike(module, program)


def test_each_table_is_read_by_its_own_features():
    trace, _ = trace_ranker(packed_ranker())
    assert table_features(trace) == {
        "module.users.weight": ("user",),
        "module.tags.weight": ("tags",),
        "module.items.weight": ("item",),
        "module.both.weight": ("tags", "item"),
    }


def test_what_follows_from_the_user_alone_is_known_and_prices_are_no_ids():
    diagnosis = diagnose(packed_ranker()).to_json()
    floats = [each["features"] for each in diagnosis["findings"] if each["code"] == "float-ids"]
    assert floats == [["user"], ["tags"], ["item"]]
    assert all(  # the tower is all of it
        each["user_multiply_adds"] == each["multiply_adds"] > 0 for each in diagnosis["work"]
    )
