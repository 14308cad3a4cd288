"""The stage: embedding bags without loops, and tables read with one gather."""

from __future__ import annotations

from typing import TYPE_CHECKING

import history_rankers
import numpy as np
import onnx
import pytest
import torch
from flat_graphs import graph_of
from torch import nn

from optimize.build import run_stage
from optimize.capture import capture
from optimize.flat_graph import aten
from optimize.lookups import join_tables, unfold_bags
from optimize.runtimes import open_predictor

if TYPE_CHECKING:
    from rankers.requests import RequestBatch

LENGTH = 3


def sample(rows):
    random = torch.Generator().manual_seed(rows)
    ids = torch.randint(10, (rows, LENGTH), generator=random)
    ids[0] = 0
    return {"ids": ids, "weights": torch.rand(rows, LENGTH, generator=random)}


class Bag(nn.Module):
    def __init__(self, mode, padding, *, weighted=False, offsets=False):
        super().__init__()
        torch.manual_seed(0)
        self.bag = nn.EmbeddingBag(10, 4, mode=mode, padding_idx=padding)
        self.weighted, self.offsets = weighted, offsets

    def forward(self, ids, weights):
        if self.offsets:  # flat IDs with starts, as torchrec and older code call it
            starts = torch.arange(0, ids.numel(), ids.shape[1])
            return self.bag(ids.reshape(-1), starts).sum(1) + weights.sum(1)
        return self.bag(ids, per_sample_weights=weights if self.weighted else None).sum(1)


@pytest.mark.parametrize(
    "module",
    [
        Bag("sum", None), Bag("sum", 0), Bag("mean", None), Bag("mean", 0), Bag("max", None),
        Bag("max", 0), Bag("sum", None, weighted=True), Bag("sum", None, offsets=True),
    ],
    ids=["sum", "sum-padded", "mean", "mean-padded", "max", "max-padded", "weighted", "offsets"],
)  # fmt: skip
def test_a_bag_becomes_a_gather_that_gives_the_same(module):
    graph = graph_of(module, ("ids", "weights"), ("weights",), sample)
    columns = sample(7)
    expected = graph.score(columns)
    assert len(unfold_bags(graph)) == 1
    assert not [node for node in graph.nodes if "embedding_bag" in str(node.target)]
    torch.testing.assert_close(graph.score(columns), expected)


class TestStage:
    def test_no_loop_is_left_in_the_onnx_graph(self, store):
        ranker = history_rankers.bags()
        captured = capture(ranker, store, candidates=(1, 5))
        exported = run_stage("export_onnx", {}, captured, store)
        graph = onnx.load(exported.model_path, load_external_data=False).graph
        assert not {"Loop", "If", "Scan"} & {node.op_type for node in graph.node}
        batch: RequestBatch = ranker.evaluation
        scores = open_predictor(exported)(batch.flat())
        np.testing.assert_allclose(scores, ranker.score(batch.flat()), rtol=1e-5)

    def test_it_says_what_it_rewrote(self, store):
        captured = capture(history_rankers.bags(), store, candidates=(1, 5))
        made = run_stage("lookups", {"tables": "joined"}, captured, store)
        assert len(made.manifest.notes) == 3
        batch = history_rankers.requests()
        np.testing.assert_allclose(
            open_predictor(made)(batch.flat()), open_predictor(captured)(batch.flat()), rtol=1e-5
        )

    def test_a_program_without_bags_is_left_as_it_is(self, captured, store):
        made = run_stage("lookups", {}, captured, store)
        assert made.manifest.notes == ()
        assert made.manifest.signature == captured.manifest.signature


class Tables(nn.Module):
    """Four tables of one width, two of them read in a stack and side by side."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tables = nn.ModuleList(nn.Embedding(size, 4) for size in (5, 7, 9, 11))
        self.other = nn.Embedding(5, 3)

    def forward(self, a, b, c, d):
        rows = [table(x) for table, x in zip(self.tables, (a, b, c, d), strict=True)]
        stacked = torch.stack([*rows[:3], rows[0] * 2], dim=1).sum((1, 2))
        beside = torch.cat([self.other(a), *rows[1:]], dim=1).square().sum(1)
        return stacked + beside + rows[3].sum(1)


def test_tables_of_one_width_and_side_are_read_with_one_gather():
    def ids(rows):
        random = torch.Generator().manual_seed(rows)
        return {
            name: torch.randint(size, (rows,), generator=random)
            for name, size in zip("abcd", (5, 7, 9, 11), strict=True)
        }

    graph = graph_of(Tables(), tuple("abcd"), ("d",), ids)
    columns = ids(8)
    expected = graph.score(columns)
    done = join_tables(graph)
    assert done == ["3 tables of the item read with one gather"]
    lookups = [node for node in graph.nodes if node.target is aten.embedding.default]
    assert len(lookups) == 3  # the joined one, the user's, and the one of another width
    torch.testing.assert_close(graph.score(columns), expected)
