"""What is measured of neurons, which go for a budget, and what stands in for them."""

from __future__ import annotations

import dataclasses

import layered_rankers
import numpy as np
import pytest
import torch

from optimize.artifact import Manifest
from optimize.capture import capture
from optimize.export import export_ranker
from optimize.finetuning.settings import DistilSettings
from optimize.pruning.allocation import Budget, choose
from optimize.pruning.coupling import find_coupling
from optimize.pruning.cutting import cut
from optimize.pruning.low_rank import factors
from optimize.pruning.prune import PruneSettings, prune
from optimize.pruning.statistics import layer_statistics
from optimize.tables.program import open_graph
from rankers.errors import UserError

SIGNATURE = layered_rankers.SIGNATURE
MANIFEST = Manifest("layered", "torch", "model.pt2", SIGNATURE)
REQUESTS = layered_rankers.requests(120, seed=1)
NO_TUNING = DistilSettings(steps=0)


@pytest.fixture(scope="module")
def plain():
    """The plain ranker; its neuron 5 of the first layer is its neuron 4 over again."""
    ranker = layered_rankers.ranker()
    first = ranker.module.layers[0]
    with torch.no_grad():
        first.weight[5], first.bias[5] = first.weight[4], first.bias[4]
    return ranker, export_ranker(ranker)


@pytest.fixture(scope="module")
def artifact(store):
    return capture(layered_rankers.ranker(), store, candidates=(1, 5))


@pytest.fixture
def found(plain):
    graph = open_graph(plain[1], MANIFEST)
    coupling = find_coupling(graph)
    return graph, coupling, layer_statistics(graph, coupling.layers, REQUESTS, MANIFEST)


def inputs_of_second(ranker):
    columns = {name: torch.from_numpy(x) for name, x in REQUESTS.flat().items()}
    x = torch.cat(
        [columns["profile"], ranker.module.table(columns["item"]), columns["price"]], dim=1
    )
    return torch.relu(ranker.module.layers[0](x))


def test_statistics_are_those_of_a_layers_inputs_and_of_the_scores_slopes(plain, found):
    ranker, _ = plain
    _, _, statistics = found
    of_second = statistics["ranker.layers.2.weight"]
    a = inputs_of_second(ranker).detach().requires_grad_()
    logits = ranker.module.layers[4](torch.nn.functional.gelu(ranker.module.layers[2](a)))
    (slopes,) = torch.autograd.grad(logits.sum(), a)
    likely = torch.sigmoid(logits.detach())

    assert of_second.rows == of_second.scored == REQUESTS.rows
    torch.testing.assert_close(of_second.mean, a.detach().double().mean(0))
    torch.testing.assert_close(of_second.moment, (a.T @ a / len(a)).detach().double())
    expected = (slopes.square() * likely * (1 - likely)).mean(0).double()
    torch.testing.assert_close(of_second.sensitivity, expected, rtol=1e-4, atol=1e-9)


def test_the_budget_is_met_by_widths_that_are_whole_multiples(found):
    _, coupling, statistics = found
    whole = 51 * 32 + 32 * 16 + 16
    for multiple in (1, 4, 8):
        chosen, left = choose(coupling, statistics, Budget(0.5, whole, multiple, 4))
        first, second = (32 - len(chosen.get(0, ())), 16 - len(chosen.get(1, ())))

        assert first % multiple == second % multiple == 0
        assert min(first, second) >= 4
        assert left == pytest.approx((51 * first + first * second + second) / whole)
        assert left <= 0.5


def test_of_two_equal_neurons_one_goes_first_and_the_other_does_its_work(found):
    graph, coupling, statistics = found
    columns = graph.sample(50)
    expected = graph.score(columns)
    whole = 51 * 32 + 32 * 16 + 16
    chosen, _ = choose(coupling, statistics, Budget(1 - 1 / whole, whole, 1, 1))
    (gone,) = chosen[0]
    assert gone in {4, 5}

    cut(graph, coupling, chosen, statistics)

    error = (graph.score(columns) - expected).abs().max()
    assert error < 1e-3 * expected.std()


def test_the_second_of_two_equal_neurons_does_not_go_next(found):
    _, coupling, statistics = found
    whole = 51 * 32 + 32 * 16 + 16

    chosen, _ = choose(coupling, statistics, Budget(0.8, whole, 1, 1))

    assert len(chosen[0]) > 2
    assert len(chosen[0] & {4, 5}) == 1


def test_what_stays_stands_in_better_than_nothing(artifact):
    settings = PruneSettings(budget=0.4, rounds=2, multiple=4, min_width=4)
    with_it, _ = prune(artifact, REQUESTS, settings, NO_TUNING)
    without, _ = prune(artifact, REQUESTS, dataclasses.replace(settings, stand_in=False), NO_TUNING)
    held_out = layered_rankers.requests(100, seed=7)
    columns = {name: torch.from_numpy(x) for name, x in held_out.flat().items()}
    module = layered_rankers.ranker().module
    with torch.no_grad():
        expected = module(**columns)

    errors = [(graph.score(columns) - expected).square().mean() for graph in (with_it, without)]

    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize(("each", "steps"), [(False, [7]), (True, [3, 4])])
def test_fine_tuning_comes_last_or_in_each_round_and_leaves_tables_alone(artifact, each, steps):
    settings = PruneSettings(budget=0.4, rounds=2, multiple=4, min_width=4, tune_each=each)
    tuning = DistilSettings(steps=7, batch_requests=8, learning_rate=1e-3)
    graph, pruned = prune(artifact, REQUESTS, settings, tuning)

    assert [x.steps for x in pruned.tuned] == steps
    assert all(x.loss_after <= x.loss_before for x in pruned.tuned)
    table = dict(graph.module.named_parameters())["ranker.table.weight"]
    np.testing.assert_array_equal(
        table.detach().numpy(), layered_rankers.ranker().module.table.weight.detach().numpy()
    )


def test_a_layer_whose_outputs_stay_becomes_two_if_it_is_of_low_rank(store):
    ranker = layered_rankers.ranker("Cross")
    weight = ranker.module.cross.weight
    with torch.no_grad():
        left, sizes, right = torch.linalg.svd(weight)
        weight.copy_(left[:, :4] * sizes[:4] @ right[:4])
    cross = capture(ranker, store, candidates=(1, 5))
    settings = PruneSettings(
        budget=0.5, rounds=1, multiple=4, min_width=4, exclude=("deep",), low_rank=True
    )

    graph, pruned = prune(cross, REQUESTS, settings, NO_TUNING)

    layers = {each.name: each for each in pruned.layers}
    assert layers["cross"].rank in {4, 8}  # as far as the budget asks
    assert layers["deep"].rank == 0
    assert layers["deep"].outputs_after == 24
    assert layers["cross"].multiply_adds_after == layers["cross"].rank * (51 + 51)
    assert layers["cross"].bytes_after == 4 * layers["cross"].multiply_adds_after
    columns = graph.sample(50)
    with torch.no_grad():
        expected = ranker.module(**columns)
    torch.testing.assert_close(graph.score(columns), expected, rtol=0, atol=1e-3)


def test_factors_of_full_rank_are_the_layer_itself():
    random = torch.Generator().manual_seed(0)
    weight, inputs, slopes = (
        torch.randn(size, generator=random, dtype=torch.float64) for size in ((6, 9), (40, 9), (6,))
    )

    into, out = factors(weight, inputs.T @ inputs / 40, slopes.square(), 6)

    torch.testing.assert_close(out @ into, weight)


def test_a_budget_that_cannot_be_met_is_refused_with_what_can(store):
    cross = capture(layered_rankers.ranker("Cross"), store, candidates=(1, 5))
    with pytest.raises(UserError) as error:
        prune(cross, REQUESTS, PruneSettings(budget=0.3), NO_TUNING)

    message = str(error.value)
    assert "\n" not in message
    least = (51 * 51 + 8 * 51 + 8) / (51 * 51 + 24 * 51 + 24)
    assert f"no less than {least:.3f} can be reached" in message
    assert "cross (mul with what no layer makes)" in message
    assert message.endswith("; give more, or low_rank = true")
