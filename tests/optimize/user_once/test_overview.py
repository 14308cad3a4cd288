"""What a picture of a graph is made of."""

from __future__ import annotations

import json
from itertools import pairwise

import history_rankers
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import random_graphs
from torch import nn

from optimize.diagnosis.trace import tensors
from optimize.export import export_ranker
from optimize.flat_graph import flat_graph
from optimize.samples import sample_tensors
from optimize.user_once.account import account_of
from optimize.user_once.cost import Request
from optimize.user_once.diagram import Diagram
from optimize.user_once.grouping import group_nodes
from optimize.user_once.normalize import normalize
from optimize.user_once.overview import overview
from optimize.user_once.rewriting import rewrite
from optimize.user_once.split import split, splittable_sides
from optimize.user_once.work import work_of
from rankers.features import Feature, Signature

REQUEST = Request(10)


def graph_of(module, signature):
    """Trace a module over its features' columns."""

    class Positional(nn.Module):
        def __init__(self):
            super().__init__()
            self.ranker = module.eval()

        def forward(self, *columns):
            return self.ranker(**dict(zip(names, columns, strict=True)))

    names = [each.name for each in signature.features]
    sample = sample_tensors(signature)
    rows = torch.export.Dim("rows", min=1)
    shapes = (tuple({0: rows} for _ in names),)
    program = torch.export.export(Positional(), tuple(sample(5).values()), dynamic_shapes=shapes)
    graph = flat_graph(program, names, [each.name for each in signature.user], sample)
    normalize(graph)
    return graph


def drawn(graph, *, once=False):
    return overview(graph, graph.sides(), REQUEST, once=once)


def labels(diagram):
    return [each.label for each in diagram.groups]


@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(random_graphs(), st.booleans(), st.sampled_from([3, 24]))
def test_of_any_graph_groups_hold_each_tensor_once_and_read_what_came_before(graph, once, most):
    sides = graph.sides()
    values = graph.run(graph.sample(2))
    groups = group_nodes(graph, sides, values, most)
    nodes = [node for each in groups for node in each.nodes]
    assert len(nodes) == len(set(nodes))
    drawable = {"placeholder", "call_function"}
    assert set(nodes) == {x for x in graph.nodes if x.op in drawable and tensors(values[x])}
    assert all({sides[node] for node in each.nodes} <= {each.side, "none"} for each in groups)

    diagram = overview(graph, sides, REQUEST, once=once)
    assert all(each.source < each.target for each in diagram.edges)
    work = work_of(graph, sides, REQUEST, once=once)
    for side, products in work.multiply_adds.items():
        if side != "none":  # what is neither's may go with what reads it
            found = sum(each.multiply_adds for each in diagram.groups if each.side == side)
            assert found >= products
    assert sum(each.multiply_adds for each in diagram.groups) == sum(work.multiply_adds.values())
    assert sum(each.gathered_bytes for each in diagram.groups) == work.gathered_bytes
    assert Diagram.from_json(json.loads(json.dumps(diagram.to_json()))) == diagram


@pytest.fixture(scope="module")
def program():
    return export_ranker(history_rankers.attending())


@pytest.fixture
def attending(program):
    signature = history_rankers.SIGNATURE
    names = [each.name for each in signature.features]
    user = [each.name for each in signature.user]
    graph = flat_graph(program, names, user, sample_tensors(signature))
    normalize(graph)
    return graph


class TestARankerWithAHistory:
    def test_modules_name_its_groups_and_a_layer_of_the_encoder_is_one(self, attending):
        diagram = drawn(attending)
        assert labels(diagram).count("encoder.layers.0") == 1
        assert {"attention.0", "attention.2", "head.0", "head.2"} <= set(labels(diagram))
        layer = diagram.groups[labels(diagram).index("encoder.layers.0")]
        assert layer.side == "user"
        assert "scaled_dot_product_attention" in layer.operators
        assert layer.shape == (history_rankers.EVENTS, 8)
        assert layer.multiply_adds > 0

    def test_the_frontier_is_what_the_user_gives_to_candidates(self, attending):
        diagram = drawn(attending)
        sides = {(diagram.groups[x.source].side, diagram.groups[x.target].side, x.crosses)
                 for x in diagram.edges}  # fmt: skip
        assert {crosses for source, target, crosses in sides if source == "user" != target} == {
            True
        }
        assert {crosses for source, target, crosses in sides if source != "user"} == {False}
        encoded = (history_rankers.EVENTS, 8)
        sizes = {each.shape: each.bytes_per_row for each in diagram.frontier}
        assert sizes[encoded] == 4 * history_rankers.EVENTS * 8

    def test_after_the_split_it_is_what_the_split_repeats(self, attending):
        graph = attending
        rewrite(graph, Request(200))
        sides = splittable_sides(graph)
        _, repeated = split(graph, sides)
        diagram = overview(graph, sides, REQUEST, once=True)
        columns = {node: name for name, node in graph.placeholders.items()}
        expected = {columns.get(node, node.name) for node in repeated}
        assert {each.name for each in diagram.frontier} == expected
        assert expected


SIGNATURE = Signature(
    (
        Feature("age", "float32", (2,), side="user"),
        *(Feature(f"user_{n}", "int64", side="user", cardinality=9) for n in range(3)),
        *(Feature(f"item_{n}", "int64", side="item", cardinality=9) for n in range(4)),
    )
)


class Fields(nn.Module):
    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleDict(
            {each.name: nn.Embedding(9, 4) for each in SIGNATURE.features if each.cardinality}
        )
        self.deep = nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, age, **ids):
        found = [self.tables[name](column) for name, column in ids.items()]
        return self.deep(torch.cat([age, *found], dim=1)).squeeze(1)


class TestARankerOfFields:
    def test_lookups_that_are_read_together_are_one_group_for_each_side(self):
        diagram = drawn(graph_of(Fields(), SIGNATURE))
        tables = {each.side: each for each in diagram.groups if each.label == "tables"}
        assert {side: each.times for side, each in tables.items()} == {"user": 3, "item": 4}
        assert tables["item"].gathered_bytes == 10 * 4 * 4 * 4
        columns = {each.label: each.operators for each in diagram.groups if each.kind == "column"}
        assert columns["item_0 … item_3"] == ("item_0", "item_1", "item_2", "item_3")
        assert columns["age"] == ("age",)

    def test_small_operators_go_with_the_layer_before_or_after_them(self):
        diagram = drawn(graph_of(Fields(), SIGNATURE))
        (first,) = [each for each in diagram.groups if each.label == "deep.0"]
        assert first.operators == ("cat", "linear", "relu")
        assert diagram.groups[-1].operators == ("linear",)

    def test_counted_once_the_users_multiply_adds_and_bytes_are_those_of_one_row(self):
        graph = graph_of(Fields(), SIGNATURE)
        flat, once = drawn(graph), drawn(graph, once=True)
        for before, after in zip(flat.groups, once.groups, strict=True):
            times = REQUEST.candidates if before.side == "user" else 1
            assert before.gathered_bytes == times * after.gathered_bytes


class Residual(nn.Module):
    """Two ways from a linear layer to a sum: a group that took both in would read itself."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, age, **ids):
        x = self.first(age)
        return (x + self.second(torch.relu(x)) + ids["item_0"].unsqueeze(1)).sum(1)


def test_a_residual_sum_goes_with_the_later_layer():
    diagram = drawn(graph_of(Residual(), SIGNATURE))
    found = {each.label: each.operators for each in diagram.groups if each.side == "user"}
    assert found["first"] == ("linear", "relu")
    assert found["second"] == ("linear", "add")


class Late(Residual):
    """The same, where the group that was begun first is the one that was added to last."""

    def forward(self, age, **ids):
        x = self.first(age)
        y = self.second(x)
        return (torch.relu(x) + y + ids["item_0"].unsqueeze(1)).sum(1)


def test_no_group_reads_what_reads_it():
    diagram = drawn(graph_of(Late(), SIGNATURE))
    found = {each.label: each.operators for each in diagram.groups if each.side == "user"}
    assert found["first"] == ("linear", "relu")
    assert found["second"] == ("linear", "add")


class Deep(nn.Module):
    """More groups than are read at once: blocks of two layers each."""

    def __init__(self):
        super().__init__()
        self.towers = nn.ModuleDict()
        for name in "abcdefghijklmnop":
            self.towers[name] = nn.ModuleDict({"one": nn.Linear(2, 2), "two": nn.Linear(2, 2)})

    def forward(self, age, **ids):
        for tower in self.towers.values():
            age = tower["two"](torch.tanh(tower["one"](age)))
        return age.sum(1) + ids["item_0"]


def test_of_too_many_groups_those_of_a_module_become_one_deepest_first():
    diagram = drawn(graph_of(Deep(), SIGNATURE))
    towers = [each for each in labels(diagram) if each.startswith("towers.")]
    assert towers == [f"towers.{name}" for name in "abcdefghijklmnop"]
    edges = {(each.source, each.target) for each in diagram.edges}
    places = [labels(diagram).index(each) for each in towers]
    assert {*pairwise(places)} <= edges


def test_a_graph_that_cannot_be_drawn_is_reckoned_all_the_same(monkeypatch, capfd):
    def broken(*_, **__):
        raise KeyError("a node")

    monkeypatch.setattr("optimize.user_once.account.overview", broken)
    graph = graph_of(Fields(), SIGNATURE)
    found = account_of(graph, graph.sides(), Request(30), once=True)
    assert found.diagram is None
    assert sorted(found.modelled_s) == [1, 30, 50, 200, 500]
    assert found.modelled_s[30] == found.work.seconds < found.modelled_s[50]
    assert "Traceback" in capfd.readouterr().err
