"""Whole heads of attention: which go together, what they are worth, and what is left without."""

from __future__ import annotations

import copy
import json

import layered_rankers
import numpy as np
import onnx
import pytest
import torch

from optimize.artifact import Manifest
from optimize.build import run_stage
from optimize.capture import capture
from optimize.export import export_ranker
from optimize.finetuning.settings import DistilSettings
from optimize.pruning.allocation import Budget, _residuals, choose, least_share
from optimize.pruning.coupling import Heads, find_coupling
from optimize.pruning.cutting import cut
from optimize.pruning.prune import PruneSettings, prune
from optimize.pruning.statistics import layer_statistics
from optimize.runtimes import open_predictor
from optimize.stages.prune_neurons import REPORT
from optimize.tables.program import open_graph

MANIFEST = Manifest("layered", "torch", "model.pt2", layered_rankers.SIGNATURE)
REQUESTS = layered_rankers.requests(60, seed=1)
# By the kind of attention: heads that can go one by one, and columns of q, k, v and out in each.
UNITS = {
    "Attention": (4, (4, 4, 4, 4)),
    "Products": (4, (4, 4, 4, 4)),
    "Contractions": (4, (4, 4, 4, 4)),
    "Shared": (2, (8, 4, 4, 8)),
}


@pytest.fixture(scope="module")
def programs():
    return {kind: export_ranker(layered_rankers.ranker(kind)) for kind in layered_rankers.ATTENTION}


@pytest.fixture
def graph_of(programs):
    return lambda kind: open_graph(copy.deepcopy(programs[kind]), MANIFEST)


def held(graph, name):
    return dict(graph.module.named_parameters())[f"ranker.{name}"]


def of_heads(coupling):
    return next(number for number, x in enumerate(coupling.groups) if x.name == "q")


@pytest.mark.parametrize("kind", UNITS)
def test_a_head_is_its_queries_keys_values_and_what_reads_it(kind, graph_of):
    coupling = find_coupling(graph_of(kind))
    heads, columns = UNITS[kind]
    group = coupling.groups[of_heads(coupling)]
    where = [*((f"ranker.{x}.weight", 0) for x in "qkv"), ("ranker.out.weight", 1)]

    assert len(group.neurons) == heads
    assert tuple(group.signature[x] for x in where) == columns
    assert group.neurons[1]["ranker.q.weight", 0] == tuple(range(columns[0], 2 * columns[0]))
    assert coupling.attention == (Heads(("q", "k", "v"), heads),)
    assert "q" not in coupling.held


def test_a_parameter_for_each_head_goes_with_it(graph_of):
    graph = graph_of("Products")
    coupling = find_coupling(graph)
    slope = held(graph, "slope").detach().clone()

    cut(graph, coupling, {of_heads(coupling): {0, 2}}, None)

    torch.testing.assert_close(held(graph, "slope").detach(), slope[[1, 3]])
    assert find_coupling(graph).attention == (Heads(("q", "k", "v"), 2),)


@pytest.mark.parametrize("kind", UNITS)
def test_the_other_heads_answer_as_they_did(kind, graph_of):
    """Not only where nothing reads the lost one: cut, the rest is what it is in the whole."""
    graph = graph_of(kind)
    coupling = find_coupling(graph)
    heads, columns = UNITS[kind]
    with torch.no_grad():
        held(graph, "out.weight")[:, : columns[3]] = 0
    rows = graph.sample(30)
    expected = graph.score(rows)

    cut(graph, coupling, {of_heads(coupling): {0}}, None)

    torch.testing.assert_close(graph.score(rows), expected, rtol=0, atol=1e-6)
    assert tuple(held(graph, "out.weight").shape) == (8, 16 - columns[3])
    assert tuple(held(graph, "k.weight").shape) == ((heads - 1) * columns[1], 8)


def test_heads_stay_if_they_are_told_to(graph_of):
    coupling = find_coupling(graph_of("Attention"), heads=False)

    assert [x.name for x in coupling.groups] == ["inner"]
    assert {coupling.held[x] for x in "qkv"} == {"its heads are to stay"}


def test_one_head_is_left_and_counted(store):
    captured = capture(layered_rankers.ranker("Attention"), store, candidates=(1, 5))
    settings = PruneSettings(budget=0.28, rounds=2, multiple=4, min_width=4)
    graph, pruned = prune(captured, REQUESTS, settings, DistilSettings(steps=0))

    (heads,) = pruned.attention
    assert (heads.heads_before, heads.heads_after) == (4, 1)
    assert tuple(held(graph, "q.weight").shape) == (4, 8)


def test_heads_packed_in_one_weight_stay_and_other_layers_do_not(store):
    packed = capture(layered_rankers.ranker("Packed"), store, candidates=(1, 5))
    settings = PruneSettings(budget=0.9, rounds=1, multiple=4, min_width=4)
    _, pruned = prune(packed, REQUESTS, settings, DistilSettings(steps=0))
    layers = {x.name: x for x in pruned.layers}

    assert pruned.attention == ()
    assert layers["attention.in_proj_weight"].outputs_after == 24
    assert layers["attention.in_proj_weight"].reason == "read by select"
    assert layers["attention.out_proj"].outputs_after < 8


def test_columns_that_go_together_are_weighed_together():
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn((200, 7), generator=random, dtype=torch.float64)
    inputs[:, 1] = inputs[:, 0] + 0.01 * inputs[:, 1]  # one by one, each foretells the other
    spread = inputs.T @ inputs / 200
    pairs = torch.tensor([[0, 1], [2, 3], [4, 5]])

    found = _residuals(torch.linalg.inv(spread), pairs)

    for row, pair in zip(found, pairs, strict=True):
        others = [x for x in range(7) if x not in pair]
        rest = torch.linalg.lstsq(inputs[:, others], inputs[:, pair]).solution
        left = (inputs[:, pair] - inputs[:, others] @ rest).square().mean(0)
        torch.testing.assert_close(row, left)
    assert found[0].min() > 0.5


def test_of_two_heads_alike_one_goes_first_and_the_other_does_its_work(graph_of):
    graph = graph_of("Attention")
    with torch.no_grad():
        for name in ("q", "k", "v"):
            for each in (held(graph, f"{name}.weight"), held(graph, f"{name}.bias")):
                each[8:12] = each[:4]
    coupling = find_coupling(graph, exclude=("inner",))
    statistics = layer_statistics(graph, coupling.layers, REQUESTS, MANIFEST)
    rows = graph.sample(50)
    expected = graph.score(rows)
    whole = 4 * 6 * 8 * 16 + 8 * 24 + 24

    chosen, left = choose(coupling, statistics, Budget(0.9, whole, 1, 1))
    cut(graph, coupling, chosen, statistics)

    (gone,) = chosen.values()
    assert len(gone) == 1
    assert gone < {0, 2}
    assert left == pytest.approx((whole - 4 * 6 * 8 * 4) / whole)
    # The ridge keeps the copy from taking over all of it.
    assert (graph.score(rows) - expected).abs().max() < 1e-2 * expected.std()


@pytest.mark.parametrize(
    ("multiple", "min_width", "heads"), [(1, 1, 1), (8, 1, 2), (4, 12, 3), (3, 1, 3), (32, 1, 4)]
)
def test_widths_of_heads_are_whole_multiples_too(multiple, min_width, heads, graph_of):
    graph = graph_of("Attention")
    coupling = find_coupling(graph, exclude=("inner",))
    statistics = layer_statistics(graph, coupling.layers, REQUESTS, MANIFEST)
    whole = 4 * 6 * 8 * 16 + 8 * 24 + 24
    budget = Budget(0.01, whole, multiple, min_width)
    left = (4 * 6 * 8 * 4 * heads + 8 * 24 + 24) / whole

    chosen, share = choose(coupling, statistics, budget)

    assert 4 - sum(map(len, chosen.values())) == heads
    assert share == pytest.approx(left)
    assert least_share(coupling, statistics, budget) == pytest.approx(left)


def test_layers_of_heads_may_be_of_low_rank_too(store):
    ranker = layered_rankers.ranker("Attention")
    with torch.no_grad():
        for each in (ranker.module.q, ranker.module.k):
            left, sizes, right = torch.linalg.svd(each.weight, full_matrices=False)
            each.weight.copy_(left[:, :2] * sizes[:2] @ right[:2])
    captured = capture(ranker, store, candidates=(1, 5))
    settings = PruneSettings(budget=0.75, rounds=1, multiple=1, min_width=1, low_rank=True)
    graph, pruned = prune(captured, REQUESTS, settings, DistilSettings(steps=0))
    layers = {x.name: x for x in pruned.layers}
    columns = graph.sample(50)

    assert 2 <= layers["q"].rank < 5
    assert 2 <= layers["k"].rank < 5
    (heads,) = pruned.attention
    assert layers["q"].outputs_after == layers["k"].outputs_after == 4 * heads.heads_after
    assert layers["q"].multiply_adds_after == 6 * layers["q"].rank * (8 + 4 * heads.heads_after)
    with torch.no_grad():
        expected = ranker.module(**columns)
    assert (graph.score(columns) - expected).std() < 0.3 * expected.std()


@pytest.fixture(scope="module")
def captured_attention(store):
    return capture(layered_rankers.ranker("Products"), store, candidates=(1, 5))


def test_the_stage_cuts_heads_says_how_many_and_what_is_left_exports(captured_attention, store):
    options = {"budget": 0.6, "multiple": 4, "min_width": 4, "rounds": 2}
    pruned = run_stage("prune_neurons", options, captured_attention, store, data=captured_attention)
    exported = run_stage("export_onnx", {}, pruned, store)
    said = json.loads((pruned.folder / REPORT).read_text())
    batch = layered_rankers.requests(9, seed=4)
    scores = [
        open_predictor(x)(x.manifest.columns_of(batch))
        for x in (captured_attention, pruned, exported)
    ]

    (attention,) = said["attention"]
    heads = attention["heads_after"]
    assert attention == {"layers": ["q", "k", "v"], "heads_before": 4, "heads_after": heads}
    assert 1 <= heads < 4
    layers = {x["name"]: x for x in said["layers"]}
    assert [layers[x]["outputs_after"] for x in "qkv"] == [4 * heads] * 3
    assert layers["out"]["inputs_after"] == 4 * heads
    assert layers["q"]["multiply_adds_after"] == 6 * 8 * 4 * heads
    total = sum(x["multiply_adds_after"] for x in said["layers"])
    inner = layers["inner"]["outputs_after"]
    assert total == 4 * 6 * 8 * 4 * heads + 8 * inner + inner
    assert f"{4 - heads} of 4 attention heads" in pruned.manifest.notes[-1]
    np.testing.assert_allclose(scores[2], scores[1], atol=1e-5)
    assert (scores[1] - scores[0]).std() < 0.5 * scores[0].std()
    shapes = {tuple(x.dims) for x in onnx.load(exported.model_path).graph.initializer}
    assert (heads, 1, 1) in shapes
    assert not any(16 in shape for shape in shapes)


def test_heads_stay_by_an_option(captured_attention, store):
    options = {"budget": 0.98, "multiple": 4, "min_width": 4, "rounds": 1, "heads": False}
    pruned = run_stage("prune_neurons", options, captured_attention, store, data=captured_attention)
    said = json.loads((pruned.folder / REPORT).read_text())

    assert {x["outputs_after"] for x in said["layers"] if x["name"] in "qkv"} == {16}
    assert said["attention"] == []
