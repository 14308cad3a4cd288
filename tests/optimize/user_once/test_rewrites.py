"""What each rewrite makes of the module that it is for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from optimize.flat_graph import aten, flat_graph
from optimize.user_once.cost import Request
from optimize.user_once.normalize import normalize
from optimize.user_once.rewriting import REWRITES

NAMES = ("user", "history", "item")
WIDTH = 4


def sample(rows):
    random = torch.Generator().manual_seed(rows)
    return {
        "user": torch.randn(rows, WIDTH, generator=random),
        "history": torch.randn(rows, 9, WIDTH, generator=random),
        "item": torch.randn(rows, WIDTH, generator=random),
    }


class Concatenated(nn.Module):
    """A layer over all features side by side, most of them the user's."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(101 * WIDTH, 32)

    def forward(self, user, history, item):
        wide = user.repeat(1, 100)
        return self.layer(torch.cat([item, wide], 1)).sum(1) + history.sum((1, 2))


class Activation(nn.Module):
    """DIN's local activation, with Dice."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(4 * WIDTH, 3), nn.Linear(3, 1)
        self.alpha = nn.Parameter(torch.rand(3))

    def forward(self, user, history, item):
        t = item.unsqueeze(1).expand_as(history)
        x = self.layer(torch.cat([history, t, history - t, history * t], -1))
        p = torch.sigmoid(x)
        weights = self.out(p * x + (1 - p) * self.alpha * x)
        return (weights * history).sum(1).sum(1) + user.sum(1)


class Dots(nn.Module):
    """DLRM's, and a factorization machine's sums."""

    def __init__(self):
        super().__init__()
        lower, upper = torch.tril_indices(11, 11, offset=-1)
        self.register_buffer("lower", lower)
        self.register_buffer("upper", upper)

    def forward(self, user, history, item):
        v = torch.cat([user.unsqueeze(1), history, item.unsqueeze(1)], 1)
        dots = torch.bmm(v, v.transpose(1, 2))[:, self.lower, self.upper]
        both = torch.stack([user, item], 1)
        return dots.sum(1) + (both.sum(1).square() - both.square().sum(1)).sum(1)


class Attending(nn.Module):
    """The item asks the history; what stands side by side is a stack, flattened."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * WIDTH, 2)

    def forward(self, user, history, item):
        read = nn.functional.scaled_dot_product_attention(item.unsqueeze(1), history, history)
        stacked = torch.stack([user, read.squeeze(1), item], 1)
        return self.layer(stacked.flatten(1)).sum(1)


class Mixed(nn.Module):
    """User and item put side by side for something that is no linear layer."""

    def forward(self, user, history, item):
        return torch.cat([user, history.sum(1), item], 1).tanh().cumsum(1).sum(1)


def graph_of(module):
    torch.manual_seed(0)
    rows, columns = Dim("rows", min=1), sample(5)
    with torch.no_grad():
        program = export(
            module.eval(), tuple(columns.values()), dynamic_shapes=tuple({0: rows} for _ in columns)
        )
    graph = flat_graph(program, NAMES, ("user", "history"), sample)
    normalize(graph)
    return graph


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        (
            "linear_layers",
            Concatenated,
            ["layer of 404 columns: 4 columns of the item, 400 columns of"],
        ),
        ("linear_layers", Activation, ["by the candidate's own matrix"]),
        ("weighted_sums", Activation, ["weighted sum of 9 vectors"]),
        ("scalar_biases", Activation, ["a layer with one output, 9 places"]),
        ("gates", Activation, ["gate between"]),
        ("dots", Dots, ["dots of 10 vectors of the user and 1 others"]),
        ("sums", Dots, ["sum of 1 values", "sum of 1 values"]),
        ("attention", Attending, ["attention over the user's keys, 9"]),
        ("stacks", Attending, ["flattened stack of 3"]),
        ("concats", Mixed, ["2 of 3 values repeated with 1 gathers"]),
    ],
)
def test_it_finds_what_it_is_for_and_leaves_the_scores(name, module, said):
    graph = graph_of(module())
    columns = sample(6)
    expected = graph.score(columns)
    done = REWRITES[name](graph, Request(200))
    assert len(done) == len(said)
    for line, part in zip(done, said, strict=True):
        assert part in line
    torch.testing.assert_close(graph.score(columns), expected)


def test_a_gate_takes_three_operators():
    graph = graph_of(Activation())
    REWRITES["gates"](graph, Request(200))
    (gate,) = [
        node
        for node in graph.nodes
        if node.target is aten.mul.Tensor and node.args[1].target is aten.add.Tensor
    ]
    assert gate.args[1].args[0].target is aten.mul.Tensor
    assert not [node for node in graph.nodes if node.target is aten.rsub.Scalar]


def test_everything_has_a_test_here():
    marks = test_it_finds_what_it_is_for_and_leaves_the_scores.pytestmark
    assert {case[0] for case in marks[0].args[1]} == set(REWRITES)
