"""What each rewrite makes of the module that it is for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from optimize.flat_graph import aten, flat_graph
from optimize.user_once.cost import Request
from optimize.user_once.normalize import normalize
from optimize.user_once.rewriting import REWRITES, rewrite

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


class Standardized(nn.Module):
    """Dice as trained: by running statistics, read by a layer and once by something else."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2 * WIDTH, 3), nn.Linear(3, 2)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(n, affine=False) for n in (3, 2)])
        self.alphas = nn.ParameterList([torch.tensor([0.3, -0.2, 0.9]), torch.tensor([0.1, 0.0])])
        self.out = nn.Linear(2, 1)
        for norm in self.norms:
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.2, 2)

    def forward(self, user, history, item):
        value = torch.cat([history, item.unsqueeze(1).expand_as(history)], -1)
        for layer, norm, alpha in zip(self.layers, self.norms, self.alphas, strict=True):
            x = layer(value)
            p = torch.sigmoid(norm(x.flatten(0, -2)).reshape(x.shape))
            value = p * x + (1 - p) * alpha * x
        return self.out(value).sum((1, 2)) + value.sum((1, 2)) + user.sum(1)


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
        ("standardized_gates", Standardized, ["gate of 3 channels", "gate of 2 channels"]),
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


def test_a_standardized_gate_takes_four_operators_and_the_next_layers_weights():
    graph = graph_of(Standardized())
    rewrite(graph, Request(200), rewrites=("standardized_gates",))
    (first, _) = (node for node in graph.nodes if node.target is aten.sigmoid.default)
    (share,) = first.users
    (gate,) = share.users
    (reader,) = gate.users
    assert reader.target is aten.linear.default
    taken = [aten.sub.Tensor, aten.sigmoid.default, aten.add.Tensor, aten.mul.Tensor]
    between = [
        each.target
        for each in graph.nodes[graph.nodes.index(first.args[0]) + 1 : graph.nodes.index(reader)]
        if each.op == "call_function"
    ]
    assert sorted(map(str, between)) == sorted(map(str, taken))


@pytest.mark.parametrize("spoil", ["a of one", "a value read elsewhere"])
def test_a_standardized_gate_stays_where_it_cannot_be_had(spoil):
    module = Standardized()
    if spoil == "a of one":
        for alpha in module.alphas:
            alpha.data.fill_(1)
    else:
        module.layers[0].register_forward_hook(lambda _, __, x: x + x.sum() * 0)
        module.layers[1].register_forward_hook(lambda _, __, x: x + x.sum() * 0)
    graph = graph_of(module)
    assert not rewrite(graph, Request(200), rewrites=("standardized_gates",))


def test_everything_has_a_test_here():
    marks = test_it_finds_what_it_is_for_and_leaves_the_scores.pytestmark
    assert {case[0] for case in marks[0].args[1]} == set(REWRITES)
