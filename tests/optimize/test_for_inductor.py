"""Programs for Inductor's CPU code: the same scores in other words."""

from __future__ import annotations

import history_rankers
import numpy as np
import pytest
import torch
from flat_graphs import graph_of
from torch import nn

from optimize.build import run_stage
from optimize.capture import capture
from optimize.flat_graph import aten
from optimize.for_inductor import rewrite_for_cpu
from optimize.for_inductor.bags import pool_in_one_kernel
from optimize.for_inductor.biases import add_biases_in_loops
from optimize.for_inductor.picks import pick_in_runs
from optimize.for_inductor.sums import reduce_short_rows
from optimize.torch_program import load_program

LENGTH, SHORT, ROWS = 20, 4, 10


def history(rows):
    random = torch.Generator().manual_seed(rows)
    ids = torch.randint(ROWS, (rows, LENGTH), generator=random)
    ids[0] = 0
    return {"ids": ids, "weights": torch.rand(rows, LENGTH, generator=random)}


class Pooled(nn.Module):
    """Sums rows of a history in the ways that rankers do.

    Args:
        weighted: By the column of weights, not by the mask of the padding.
        padding: The row of the padding ID.
        keepdim: Whether the summed dimension stays.
        kept: Whether something else reads the rows, too.
        length: How many of the IDs are summed.
    """

    def __init__(self, *, weighted=False, padding=0.0, keepdim=False, kept=False, length=LENGTH):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(ROWS, 3)
        with torch.no_grad():
            self.table.weight[0] = padding
        self.weighted, self.keepdim, self.kept, self.length = weighted, keepdim, kept, length

    def forward(self, ids, weights):
        ids, weights = ids[:, : self.length], weights[:, : self.length]
        rows = self.table(ids)
        each = weights if self.weighted else (ids != 0).to(torch.float32)
        total = (each.unsqueeze(-1) * rows).sum(1, keepdim=self.keepdim)
        total = total.flatten(1) / each.sum(1, keepdim=True).clamp(min=1)
        return total.sum(1) + (rows.amax((1, 2)) if self.kept else 0)


def targets(graph):
    return [node.target for node in graph.nodes]


def pooled(module, user=("weights",), *, user_once=False):
    graph = graph_of(module, ("ids", "weights"), user, history)
    columns = history(7)
    expected = graph.score(columns)
    done = pool_in_one_kernel(graph, user_once=user_once)
    torch.testing.assert_close(graph.score(columns), expected)
    return graph, done


class TestBags:
    def test_a_mask_of_a_row_of_zeros_goes(self):
        graph, done = pooled(Pooled())
        assert done == [f"sums of {LENGTH} looked-up rows: one kernel"]
        (bag,) = graph.module.graph.find_nodes(
            op="call_function", target=aten.embedding_bag.default
        )
        assert bag.args[6] is None
        assert aten.embedding.default not in targets(graph)

    @pytest.mark.parametrize(
        "module",
        [Pooled(padding=1.5), Pooled(weighted=True), Pooled(weighted=True, keepdim=True)],
        ids=["mask-of-numbers", "weighted", "keepdim"],
    )
    def test_other_weights_are_those_of_the_bag(self, module):
        graph, _ = pooled(module)
        (bag,) = graph.module.graph.find_nodes(
            op="call_function", target=aten.embedding_bag.default
        )
        assert bag.args[6] is not None

    @pytest.mark.parametrize(
        ("module", "user", "user_once"),
        [
            (Pooled(length=SHORT), ("weights",), False),
            (Pooled(kept=True), ("weights",), False),
            (Pooled(), ("ids", "weights"), True),
        ],
        ids=["few IDs", "rows read elsewhere", "one user"],
    )
    def test_what_a_loop_does_as_well_stays_a_loop(self, module, user, user_once):
        _, done = pooled(module, user, user_once=user_once)
        assert done == []

    def test_the_user_of_a_flat_program_is_pooled(self):
        assert pooled(Pooled(), ("ids", "weights"))[1]


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3, bias=False), nn.Linear(3, 1)
        )

    def forward(self, x):
        return self.layers(x).squeeze(1)


def test_biases_are_added_after_the_product():
    def sample(rows):
        return {"x": torch.rand(rows, 5, generator=torch.Generator().manual_seed(rows))}

    graph = graph_of(Layers(), ("x",), (), sample)
    columns = sample(7)
    expected = graph.score(columns)
    done = add_biases_in_loops(graph)
    assert done == ["biases of 2 linear layers: added by the loops that follow"]
    linear = graph.module.graph.find_nodes(op="call_function", target=aten.linear.default)
    assert [len(node.args) for node in linear] == [2, 2, 2]
    torch.testing.assert_close(graph.score(columns), expected)


class Fields(nn.Module):
    """Reduces [rows, fields, D] in a way."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, x):
        return self.way(x).flatten(1).amax(1)


@pytest.mark.parametrize(
    ("way", "sizes", "operator"),
    [
        (lambda x: x.sum(1), (5, 10), aten.add.Tensor),
        (lambda x: x.sum(1, keepdim=True), (5, 10), aten.add.Tensor),
        (lambda x: x.amax(1), (5, 10), aten.maximum.default),
        (lambda x: x[:, :, 0].unsqueeze(1) @ x, (5, 10), aten.add.Tensor),
        (lambda x: x.sum(2), (5, 10), None),
        (lambda x: x[:, :2, :5] @ x, (5, 10), None),
        (lambda x: x.sum(1), (5, 16), None),
        (lambda x: x.sum(1), (5, 1), None),
        (lambda x: x.sum(1), (200, 10), None),
    ],
    ids=[
        "sum", "keepdim", "maximum", "product of a row", "of columns", "product of rows",
        "whole vectors", "one column", "many",
    ],
)  # fmt: skip
def test_short_rows_are_reduced_one_after_the_other(way, sizes, operator):
    def sample(rows):
        random = torch.Generator().manual_seed(rows)
        return {"x": torch.rand(rows, *sizes, generator=random)}

    graph = graph_of(Fields(way), ("x",), (), sample)
    columns = sample(7)
    expected = graph.score(columns)
    done = reduce_short_rows(graph)
    assert len(done) == bool(operator)
    assert targets(graph).count(operator) == (4 if operator else 0)
    torch.testing.assert_close(graph.score(columns), expected)


class Pairs(nn.Module):
    """Picks pairs of a square of products, and adds them up, each by a factor of its own."""

    def __init__(self, first, second):
        super().__init__()
        self.register_buffer("first", torch.tensor(first))
        self.register_buffer("second", torch.tensor(second))
        self.register_buffer("factors", torch.arange(1.0, len(first) + 1))

    def forward(self, x):
        pairs = torch.bmm(x, x.transpose(1, 2))[:, self.first, self.second]
        return (pairs * self.factors).sum(1)


def fields(rows):
    return {"x": torch.rand(rows, 9, 3, generator=torch.Generator().manual_seed(rows))}


LOWER = torch.tril_indices(9, 9, -1).tolist()


@pytest.mark.parametrize(
    ("places", "runs"),
    [(LOWER, 8), (([8, 2, 3, 4], [8, 2, 3, 4]), 0), (([-1] * 8, list(range(8))), 0)],
    ids=["triangle", "diagonal", "from the end"],
)
def test_picks_that_count_up_are_copied_as_runs(places, runs):
    graph = graph_of(Pairs(*places), ("x",), (), fields)
    columns = fields(7)
    expected = graph.score(columns)
    done = pick_in_runs(graph)
    number = len(places[0])
    said = f"{number} numbers picked at fixed places: {runs} runs copied"
    assert done == ([said] if runs else [])
    assert (aten.index.Tensor in targets(graph)) is not bool(runs)
    assert torch.equal(graph.score(columns), expected)


class TestProgram:
    @pytest.mark.parametrize("layout", ["flat", "user_once"])
    def test_either_layout_scores_the_same_for_any_number_of_candidates(self, layout, store):
        ranker = history_rankers.attending()
        artifact = capture(ranker, store, candidates=(1, 5))
        if layout == "user_once":
            artifact = run_stage("user_once", {}, artifact, store)
        manifest = artifact.manifest
        program = load_program(artifact.model_path)
        rewritten, done = rewrite_for_cpu(program, manifest)
        assert done
        plain, other = program.module(), rewritten.module()
        columns = manifest.columns_of(ranker.evaluation)
        given = [torch.from_numpy(columns[name]) for name in manifest.inputs]
        with torch.no_grad():
            np.testing.assert_allclose(other(*given), plain(*given), rtol=1e-5)

    def test_what_has_nothing_to_rewrite_is_the_program_given(self, store):
        artifact = capture(history_rankers.bags(), store, candidates=(1, 5))
        program = load_program(artifact.model_path)
        rewritten, _ = rewrite_for_cpu(program, artifact.manifest)
        again, done = rewrite_for_cpu(rewritten, artifact.manifest)
        assert again is rewritten
        assert done == []
