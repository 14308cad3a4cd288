"""Matrix products run in half precision, and nothing is narrowed twice or for nothing."""

import pytest
import torch
from torch import nn

from optimize.half_products import HALVES, narrow_products

aten = torch.ops.aten


class Net(nn.Module):
    """Two layers, a table, and dots."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(10, 8)
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 4)

    def forward(self, ids, dense):
        hidden = torch.relu(self.first(self.table(ids) + dense))
        dots = torch.bmm(hidden[:, None], hidden[:, :, None])
        return torch.sigmoid(self.second(hidden).sum(1) + dots.flatten())


@pytest.fixture
def columns():
    torch.manual_seed(1)
    return torch.randint(0, 10, (6,)), torch.randn(6, 8)


def graph_of(columns):
    return torch.export.export(Net().eval(), columns).module(check_guards=False)


def calls(module, target):
    return [each for each in module.graph.nodes if each.target == target]


@pytest.mark.parametrize(("precision", "moved"), [("fp16", 5e-3), ("bf16", 4e-2)])
def test_scores_are_float32_and_near_those_of_autocast(precision, moved, columns):
    module = graph_of(columns)
    expected = module(*columns)
    assert narrow_products(module, precision) == 3
    scores = module(*columns)
    assert scores.dtype == torch.float32
    difference = (scores - expected).abs().max()
    assert 0 < difference < moved
    with torch.autocast("cpu", HALVES[precision]):
        assert (scores - Net()(*columns)).abs().max() < moved


def test_weights_are_narrowed_once_and_activations_only_where_they_were_wide(columns):
    module = graph_of(columns)
    narrow_products(module, "fp16")
    halves = [each for _, each in module.named_buffers() if each.dtype == torch.float16]
    assert sorted(each.numel() for each in halves) == [4, 16, 4 * 16, 8 * 16]
    narrowed = [each for each in calls(module, aten.to.dtype) if each.args[1] == torch.float16]
    # The first layer's input. What goes into the others is the first's output, through relu.
    assert len(narrowed) == 1
    relus = calls(module, aten.relu.default)
    assert any(each.args[0].target == aten.linear.default for each in relus)


def test_fp32_leaves_the_graph_as_it_is(columns):
    module = graph_of(columns)
    before = str(module.graph)
    assert narrow_products(module, "fp32") == 0
    assert str(module.graph) == before


def test_a_product_in_float64_stays_in_float64():
    class Double(nn.Module):
        def forward(self, x):
            return (x.double() @ x.double().T).sum(1).float()

    x = torch.randn(4, 4)
    module = torch.export.export(Double(), (x,)).module(check_guards=False)
    expected = module(x)
    assert narrow_products(module, "fp16") == 0
    assert torch.equal(module(x), expected)


def test_what_is_no_float32_goes_into_a_product_as_it_is():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.q = nn.Linear(8, 8, bias=False)

        def forward(self, x, mask):
            q = self.q(x)[:, None]
            return nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=mask).sum((1, 2))

    given = torch.randn(2, 5, 8), torch.rand(2, 1, 5, 5) > 0.3
    module = torch.export.export(Attention(), given).module(check_guards=False)
    expected = module(*given)
    assert narrow_products(module, "fp16") == 2
    (attention,) = calls(module, aten.scaled_dot_product_attention.default)
    assert attention.args[3].op == "placeholder"
    assert (module(*given) - expected).abs().max() < 1e-2
