"""Laws that hold for any ranker: the same scores, whoever's part runs when."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import NAMES, USER, random_graphs, sample

from optimize.flat_graph import FlatGraph, export_module
from optimize.user_once.cost import Request
from optimize.user_once.rewriting import REWRITES, rewrite, rewrite_user_once
from optimize.user_once.split import split, splittable_sides

COUNTS = ((1,), (9,), (5, 1, 3), (2, 2), (40, 1))


def difference(one, other):
    """The largest difference, relative to the size of scores."""
    return float((one - other).abs().max() / max(1.0, float(other.abs().max())))


def compare_split(flat, graph, tolerance):
    module, _ = split(graph, splittable_sides(graph))
    compare_joined(flat, lambda *columns: module(*columns)[0], tolerance)


def compare_joined(flat, score, tolerance):
    for counts in COUNTS:
        users, items = sample(len(counts), seed=1), sample(sum(counts), seed=2)
        index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        columns = {name: users[name][index] if name in USER else items[name] for name in NAMES}
        apart = [users[name] if name in USER else items[name] for name in NAMES]
        assert difference(score(*apart, index), flat.score(columns)) <= tolerance, counts


def copied(graph):
    return FlatGraph(copy.deepcopy(graph.module), graph.names, graph.user, graph.sample)


common = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@settings(common, max_examples=150)
@given(random_graphs(), st.sampled_from([1, 200]))
def test_rewritten_and_split_they_score_the_same(graph, candidates):
    flat = copied(graph)
    rewrite(graph, Request(candidates))
    compare_split(flat, graph, 1e-12)


@settings(common, max_examples=60)
@given(random_graphs())
def test_split_alone_they_score_the_same(graph):
    flat = copied(graph)
    rewrite(graph, Request(), rewrites=())
    compare_split(flat, graph, 1e-12)


# A program is traced twice for each, which takes seconds.
@settings(common, max_examples=5)
@given(random_graphs())
def test_from_program_to_program_they_score_the_same(graph):
    columns = {name: sample(11)[name] for name in NAMES}
    program = export_module(graph.module, columns, dict.fromkeys(columns, "rows"))
    found = rewrite_user_once(program, NAMES, USER, sample, always=True)
    compare_joined(graph, found.program.module(), 1e-12)


@pytest.mark.parametrize("name", REWRITES)
def test_each_rewrite_alone_leaves_a_flat_graph_what_it_computes(name):
    @settings(common, max_examples=40)
    @given(random_graphs())
    def law(graph):
        flat = copied(graph)
        rewrite(graph, Request(), rewrites=(name,))
        columns = sample(6, seed=3)
        assert difference(graph.score(columns), flat.score(columns)) <= 1e-12

    law()
