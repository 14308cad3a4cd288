"""The stage: lookups, bags and dots become one operator that scores the same."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import table_rankers
import torch
from torch import nn

from bench.gpu.paths import capture_program
from bench.gpu.rankers import make_ranker
from optimize.artifact import open_artifact, seal
from optimize.branches import Branch, MeasureOptions
from optimize.branching import run_branches
from optimize.capture import capture
from optimize.fusing.write import fuse_lookups
from optimize.kernels import operators
from optimize.recipe import StageUse
from optimize.run import StageResult
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.stages.fuse_lookups import REPORT, FuseLookups
from optimize.tables.program import open_program
from optimize.torch_program import load_program
from rankers.errors import UserError
from rankers.features import Feature, Signature

OPERATORS = {operators.lookup_vectors, operators.lookup_dots}


def run(stage, source, folder, **options):
    folder.mkdir(parents=True)
    return seal(folder, make_stage(stage, options).run(source, folder))


def program_of(module, signature, folder, layout="flat"):
    torch.manual_seed(0)
    return capture_program(module.eval(), signature, layout, folder)


@pytest.fixture(scope="module", params=["fp32", "int4", "some int8"])
def dlrm(request, tmp_path_factory):
    """A small DLRM with tables of a width, before and after."""
    folder = tmp_path_factory.mktemp("dlrm")
    source = program_of(*make_ranker("dlrm", quick=True), folder / "flat")
    if request.param != "fp32":
        width = request.param.split()[-1]
        tables = "*item*" if request.param.startswith("some") else "*"
        source = run(
            "quantize_tables", source, folder / "narrow", width=width, tables=tables, min_rows=1
        )
    return source, run("fuse_lookups", source, folder / "fused")


def calls(artifact):
    nodes = load_program(artifact.model_path).graph.nodes
    return [each for each in nodes if each.target in OPERATORS]


def refuse_other_scores(one, other, atol=1e-6):
    predict = [open_predictor(each, threads=1) for each in (one, other)]
    for counts in ([1], [37], [20, 3, 7]):
        requests = sample_requests(one.manifest.signature, counts)
        columns = one.manifest.columns_of(requests)
        np.testing.assert_allclose(predict[1](columns), predict[0](columns), atol=atol)


class TestDlrm:
    def test_it_is_one_operator_that_scores_the_same(self, dlrm):
        source, fused = dlrm
        (call,) = calls(open_artifact(fused.folder))
        assert call.target is operators.lookup_dots
        refuse_other_scores(source, fused)

    def test_no_lookup_and_no_product_of_vectors_is_left_and_each_table_is_held_once(self, dlrm):
        source, fused = dlrm
        left = {str(each.target) for each in load_program(fused.model_path).graph.nodes}
        assert not any("embedding" in each or "bmm" in each for each in left)
        assert fused.model_bytes < source.model_bytes

    def test_the_artifact_says_what_was_fused(self, dlrm):
        _, fused = dlrm
        (kernel,) = json.loads((fused.folder / REPORT).read_text())["kernels"]
        assert (len(kernel["tables"]), kernel["dots"]) == (26, 351)
        assert "26 lookups of width 32" in fused.manifest.notes[-1]

    def test_the_kernel_gives_what_the_operator_gives_in_a_program(self, dlrm, monkeypatch):
        """In the interpreter of the kernel's language, for each call of the operators."""
        pytest.importorskip("triton")
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        name = "optimize.kernels.lookup_dots_kernel"
        monkeypatch.delitem(sys.modules, name, raising=False)
        _, fused = dlrm
        kernels = {operators.lookup_dots: operators._dots_cuda}
        seen = []

        class Compared(torch.fx.Interpreter):
            def call_function(self, target, args, kwargs):
                value = super().call_function(target, args, kwargs)
                if target in kernels:
                    seen.append(target)
                    found = kernels[target](*args)
                    torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)
                return value

        columns = sample_requests(fused.manifest.signature, [3]).flat()
        module = load_program(fused.model_path).module(check_guards=False)
        module.graph.set_codegen(torch.fx.graph.CodeGen())
        with torch.no_grad():
            Compared(module).run(*(torch.from_numpy(columns[x]) for x in fused.manifest.inputs))
        sys.modules.pop(name, None)
        assert len(seen) == 1

    def test_it_runs_in_buckets_as_on_a_gpu(self, dlrm, tmp_path):
        source, fused = dlrm
        made = run("cuda_graphs", fused, tmp_path / "graphs", sizes="8,64")
        refuse_other_scores(source, made, atol=1e-5)  # products of other shapes


class TestOthers:
    @pytest.mark.parametrize("width", ["fp32", "int8"])
    def test_padded_bags_and_tables_read_twice(self, width, tmp_path):
        source = program_of(Bags(), BAGS, tmp_path / "flat")
        if width != "fp32":
            source = run("quantize_tables", source, tmp_path / "narrow", width=width, min_rows=1)
        fused = run("fuse_lookups", source, tmp_path / "fused")
        (call,) = calls(fused)
        assert call.target is operators.lookup_vectors
        refuse_other_scores(source, fused)
        requests = sample_requests(BAGS, [5]).flat()
        requests["tags"][:] = 0  # empty bags
        predict = [open_predictor(each, threads=1) for each in (source, fused)]
        np.testing.assert_allclose(predict[1](requests), predict[0](requests), atol=1e-6)

    def test_what_is_left_is_said_with_why(self, store, tmp_path):
        source = capture(table_rankers.shop(), store, candidates=(1, 5))
        fused = run("fuse_lookups", source, tmp_path / "fused")
        left = json.loads((fused.folder / REPORT).read_text())["left"]
        assert "held twice" in left["word"]
        assert "too few" in left["user"]
        refuse_other_scores(source, fused, atol=1e-4)

    def test_users_have_an_operator_of_their_own_where_they_come_once(self, tmp_path):
        source = program_of(*make_ranker("dlrm", quick=True), tmp_path / "once", "user_once")
        fused = run("fuse_lookups", source, tmp_path / "fused")
        found = json.loads((fused.folder / REPORT).read_text())["kernels"]
        assert sorted(len(each["tables"]) for each in found) == [10, 16]
        refuse_other_scores(source, fused)

    def test_torchrecs_order_of_dots_is_kept(self, tmp_path):
        source = program_of(Above(), BAGS, tmp_path / "flat")
        fused = run("fuse_lookups", source, tmp_path / "fused")
        bag, dots = calls(fused)  # a mean is divided before its dots are taken
        assert bag.target is operators.lookup_vectors
        assert dots.target is operators.lookup_dots
        refuse_other_scores(source, fused)

    def test_an_id_beyond_its_table_is_refused_on_the_cpu_as_before(self, tmp_path):
        source = program_of(Bags(), BAGS, tmp_path / "flat")
        fused = run("fuse_lookups", source, tmp_path / "fused")
        columns = sample_requests(BAGS, [5]).flat()
        columns["item"][0] = 40
        for each in (source, fused):
            with pytest.raises(IndexError):
                open_predictor(each, threads=1)(columns)


class TestNothingToFuse:
    def test_the_program_stays_as_it_is_and_the_branch_is_skipped_with_why(self, tmp_path):
        signature = Signature((Feature("price", "float32", (3,), "item"),))
        source = program_of(Dense(), signature, tmp_path / "flat")
        made = run("fuse_lookups", source, tmp_path / "fused")
        assert made.key == source.key
        steps = SimpleNamespace(
            device="cuda",
            stage=lambda use, source, gates: StageResult(use.name, made, 0.0, cached=False),
        )
        uses = tuple(StageUse(x, make_stage(x, {})) for x in ("fuse_lookups", "cuda_graphs"))
        chosen = run_branches([Branch("fused", uses)], source, steps, MeasureOptions())
        (ended,) = chosen.branches
        assert (ended.end, ended.artifact) == ("skipped", None)
        assert ended.reason == "fuse_lookups: nothing fused: the program looks nothing up"

    def test_one_program_in_pieces_is_refused(self, tmp_path):
        source = program_of(Bags(), BAGS, tmp_path / "flat")
        manifest = json.loads((source.folder / "manifest.json").read_text())
        assert manifest["layout"] == "flat"
        wire = SimpleNamespace(manifest=SimpleNamespace(layout="wire"))
        with pytest.raises(UserError, match="takes no wire program"):
            FuseLookups().run(wire, tmp_path)


BAGS = Signature(
    (
        Feature("dense", "float32", (4,), "user"),
        Feature("user", "int64", (), "user", 30),
        Feature("tags", "int64", (5,), "user", 20, padding=0),
        Feature("item", "int32", (), "item", 40),
        Feature("other", "int64", (), "item", 40),
    )
)


class Bags(nn.Module):
    """Sums and means of bags, and one table that two features read."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.user, self.tags, self.item = (nn.Embedding(rows, 12) for rows in (30, 20, 40))
        self.top = nn.Linear(4 * 12 + 4, 1)

    def vectors(self, user, tags, item, other):
        mask = (tags != 0).to(torch.float32).unsqueeze(-1)
        bag = (self.tags(tags) * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return [self.user(user), bag, self.item(item), self.item(other)]

    def forward(self, *, dense, user, tags, item, other):
        vectors = self.vectors(user, tags, item, other)
        return torch.sigmoid(self.top(torch.cat([dense, *vectors], 1)).squeeze(1))


class Above(Bags):
    """Dots above the diagonal, the dense vector in the middle, and a mean beside the lookups."""

    def __init__(self):
        super().__init__()
        self.bottom = nn.Linear(4, 12)
        i, j = torch.triu_indices(5, 5, offset=1)
        self.register_buffer("i", i)
        self.register_buffer("j", j)
        self.top = nn.Linear(12 + 10, 1)

    def forward(self, *, dense, user, tags, item, other):
        first, *rest = self.vectors(user, tags, item, other)
        bottom = self.bottom(dense)
        vectors = torch.cat([first, bottom, *rest], 1).reshape(-1, 5, 12)
        dots = torch.bmm(vectors, vectors.transpose(1, 2))[:, self.i, self.j]
        return torch.sigmoid(self.top(torch.cat([bottom, dots], 1)).squeeze(1))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, *, price):
        return self.layer(price).squeeze(1)


def test_bags_become_gathers_before_they_are_fused(store):
    import history_rankers

    source = capture(history_rankers.bags(), store, candidates=(1, 5))
    graph = open_program(source)
    before = graph.score(graph.sample(9))
    fused = fuse_lookups(graph, users_once=False)
    torch.testing.assert_close(graph.score(graph.sample(9)), before)
    assert fused.kernels or fused.left
