"""The stage: from a flat program to one that takes each user once, or the reason why not."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import history_rankers
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from optimize.artifact import seal
from optimize.build import run_stage
from optimize.capture import capture
from optimize.cli import main
from optimize.requirements import check_artifact
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests, sample_tensors
from optimize.split_report.reading import read_split_report
from optimize.stages.user_once import REPORT
from optimize.torch_program import load_program
from optimize.user_once.rewriting import REWRITES, rewrite_user_once
from rankers.errors import UserError
from rankers.requests import ITEM_TO_REQUEST


@pytest.fixture(scope="module")
def flat(store):
    return capture(history_rankers.attending(), store, candidates=(1, 5))


@pytest.fixture(scope="module")
def once(flat, store):
    return run_stage("user_once", {}, flat, store)


@pytest.fixture(scope="module")
def onnx_once(once, store):
    return run_stage("export_onnx", {}, once, store)


COUNTS = ([1], [30], [4, 1, 9], [2, 2, 2, 2])


@pytest.mark.parametrize("counts", COUNTS)
class TestScores:
    def test_a_program_scores_joined_requests_as_the_module_does_flat_rows(self, once, counts):
        batch = sample_requests(history_rankers.SIGNATURE, counts)
        expected = history_rankers.attending().score(batch.flat())
        scores = open_predictor(once)(once.manifest.columns_of(batch))
        np.testing.assert_allclose(scores, expected, atol=2e-6)

    def test_so_does_the_onnx_graph(self, onnx_once, counts):
        batch = sample_requests(history_rankers.SIGNATURE, counts)
        expected = history_rankers.attending().score(batch.flat())
        scores = open_predictor(onnx_once)(onnx_once.manifest.columns_of(batch))
        np.testing.assert_allclose(scores, expected, atol=2e-6)


class TestArtifact:
    def test_it_says_its_layout_and_inputs(self, once, onnx_once):
        for artifact in (once, onnx_once):
            assert artifact.manifest.layout == "user_once"
            assert artifact.manifest.inputs[-1] == ITEM_TO_REQUEST
        graph = onnx.load(onnx_once.model_path, load_external_data=False).graph
        assert [each.name for each in graph.input] == list(onnx_once.manifest.inputs)

    def test_it_reports_what_was_done_and_what_is_left(self, once):
        report = json.loads((once.folder / REPORT).read_text())
        assert report["rewritten"]
        assert {"linear_layers", "weighted_sums"} <= set(report["rewrites"])
        before, after = (report[when]["multiply_adds"] for when in ("before", "after"))
        assert sum(after.values()) < sum(before.values()) / 5
        assert once.manifest.notes[-1].startswith("user_once: ")

    def test_check_scores_it_as_it_takes_requests(self, onnx_once):
        checks = {name: passed for name, passed, _ in check_artifact(onnx_once)}
        assert checks["scores"]

    def test_inspect_says_what_became_of_it(self, once):
        done = CliRunner().invoke(main, ["inspect", str(once.folder)])
        assert "user_once layout" in done.output
        assert once.manifest.notes[-1] in done.output

    def test_one_user_in_a_batch_is_broadcast_not_repeated(self, onnx_once):
        """The encoder's output is gathered by picks: one row of it for one user."""
        model = onnx.load(onnx_once.model_path)
        picks = [node for node in model.graph.node if "picks" in node.input]
        gathered = [node.output[0] for node in picks if node.op_type == "Gather"]
        assert gathered
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in gathered)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for counts in ([40], [3, 4]):
            batch = sample_requests(history_rankers.SIGNATURE, counts)
            rows = [len(x) for x in session.run(gathered, batch.joined())]
            assert set(rows) == {1 if len(counts) == 1 else sum(counts)}

    def test_the_stage_reads_flat_programs_only(self, once, store):
        with pytest.raises(UserError, match="has the layout 'user_once' already"):
            run_stage("user_once", {}, once, store)

    def test_rewrites_are_left_out_by_their_names(self, flat, once, store):
        done = json.loads((once.folder / REPORT).read_text())["rewrites"]
        assert {"linear_layers", "weighted_sums"} <= set(done)
        less = run_stage("user_once", {"leave_out": "linear_layers, weighted_sums"}, flat, store)
        left = json.loads((less.folder / REPORT).read_text())["rewrites"]
        assert not {"linear_layers", "weighted_sums"} & set(left)
        assert less.manifest.layout == "user_once"
        with pytest.raises(UserError, match="names 'linear'; did you mean 'linear_layers'"):
            run_stage("user_once", {"leave_out": "linear"}, flat, store)

    def test_candidates_start_at_1(self, flat, store):
        with pytest.raises(UserError, match="candidates is 0; expected 1 or more"):
            run_stage("user_once", {"candidates": 0}, flat, store)


@pytest.fixture(scope="module")
def all_item(store):
    return capture(history_rankers.all_item(), store, candidates=(1, 5))


class TestWhatStandsInItsWay:
    def test_a_feature_with_the_name_of_the_index_is_refused(self):
        with pytest.raises(UserError, match="give it another name"):
            rewrite_user_once(None, ("user", ITEM_TO_REQUEST), ("user",), None)

    def test_a_run_goes_on_with_the_flat_program_and_the_log_has_the_whole_story(
        self, flat, store, monkeypatch, capfd
    ):
        def broken(graph, request):
            raise KeyError("a node")

        monkeypatch.setitem(REWRITES, "dots", broken)
        kept = run_stage("user_once", {"candidates": 150}, flat, store)
        assert kept.manifest.layout == "flat"
        assert "kept flat: KeyError" in kept.manifest.notes[-1]
        assert "Traceback" in capfd.readouterr().err
        report = json.loads((kept.folder / REPORT).read_text())
        assert sum(report["before"]["operators"].values()) > 0  # the flat program is told of
        assert report["after"] is None
        with pytest.raises(KeyError):
            run_stage("user_once", {"candidates": 150, "when": "always"}, flat, store)


class TestWhereItDoesNotPay:
    def test_an_all_item_ranker_stays_flat_and_the_artifact_says_so(self, all_item, store):
        kept = run_stage("user_once", {}, all_item, store)
        assert kept.manifest.layout == "flat"
        assert "kept flat" in kept.manifest.notes[-1]
        assert kept.manifest.inputs == all_item.manifest.inputs

    def test_unless_it_is_asked_for(self, all_item, store):
        made = run_stage("user_once", {"when": "always"}, all_item, store)
        assert made.manifest.layout == "user_once"

    def test_a_request_of_one_candidate_stays_flat(self, flat, store):
        kept = run_stage("user_once", {"candidates": 1}, flat, store)
        assert kept.manifest.layout == "flat"
        assert "for 1 candidate," in kept.manifest.notes[-1]

    @pytest.mark.parametrize("user", [(), ("history", "age", "item", "price")])
    def test_a_ranker_of_one_side_stays_flat_and_is_reported_as_it_is(self, all_item, user):
        names = ("history", "age", "item", "price")
        sample = sample_tensors(history_rankers.SIGNATURE)
        found = rewrite_user_once(load_program(all_item.model_path), names, user, sample)
        assert found.program is None
        assert "nothing to compute once" in found.reason
        side = "user" if user else "item"
        operators = found.before.work.operators
        assert operators[side] > 0
        assert sum(operators.values()) == operators[side] + operators["none"]


class TestReport:
    """``optimize report``; what is in it has tests of its own in split_report/."""

    def test_of_the_stages_artifact_it_tells_both_forms_and_draws_them(self, once, tmp_path):
        page = tmp_path / "page.html"
        done = report(once.folder, "--out", page, "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        left = json.loads((once.folder / REPORT).read_text())
        assert found["rewritten"]
        assert found["measured"] is None
        for form, when in (("flat", "before"), ("user_once", "after")):
            assert found[form]["multiply_adds"] == left[when]["multiply_adds"]
            assert set(found[form]["modelled_ms_at"]) == {"1", "50", "200", "500"}
        assert {x["name"] for x in found["user_once"]["frontier"]} == set(left["frontier"])
        text = page.read_text()
        assert text.count('<svg class="split"') == 2
        assert "encoder.layers.0" in text
        assert re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|<script', text) == []

    def test_on_a_terminal_it_prints_the_tables_and_how_to_measure(self, once):
        done = report(once.folder)
        assert "computed once a request" in done.stdout
        assert "multiply-adds, the user's" in done.stdout
        assert "wire, as sent" in done.stdout
        assert "python -m bench crossover" in done.stderr

    def test_of_a_kept_flat_program_it_says_so_and_why(self, all_item, store):
        done = report(run_stage("user_once", {}, all_item, store).folder)
        assert done.exit_code == 0, done.output
        assert "The flat program was kept: 100% of the flat program's work is left" in done.stdout
        assert "flat (kept)" in done.stdout

    def test_of_a_run_it_finds_the_stage_and_also_from_a_later_artifact(
        self, once, onnx_once, tmp_path
    ):
        folder = tmp_path / "run"
        stages = []
        for number, (name, made) in enumerate((("user_once", once), ("export_onnx", onnx_once))):
            shutil.copytree(made.folder, folder / "artifacts" / f"{number}-{name}")
            stages.append({"stage": name, "artifact": f"artifacts/{number}-{name}"})
        chosen = stages[-1]["artifact"]
        (folder / "run.json").write_text(json.dumps({"chosen": chosen, "stages": stages}))
        expected = read_split_report(once.folder)
        assert read_split_report(folder) == replace(expected, served=onnx_once.key)
        assert read_split_report(folder / chosen) == replace(expected, served=onnx_once.key)

    def test_where_there_is_nothing_to_tell_the_error_says_what_to_name(
        self, flat, onnx_once, tmp_path
    ):
        done = report(flat.folder)
        assert done.exit_code == 2
        assert "'user_once' had no part in it" in done.stderr
        done = report(onnx_once.folder)
        assert done.exit_code == 2
        assert "name the run's folder" in " ".join(done.stderr.split())
        assert report(tmp_path).exit_code == 2

    def test_what_an_older_rankserve_left_is_refused(self, once, tmp_path):
        old = tmp_path / "old"
        shutil.copytree(once.folder, old)
        left = json.loads((old / REPORT).read_text())
        del left["schema"]
        (old / REPORT).write_text(json.dumps(left))
        seal(old, once.manifest)
        done = report(old)
        assert done.exit_code == 2
        assert "schema 1; this rankserve reads 2: run the recipe again" in done.stderr


def report(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


class TestRowsThatMix:
    """What a batch-dependent operator on the user's side does."""

    class Mixing(nn.Module):
        def forward(self, user, item):
            shares = torch.softmax(user, dim=0)  # over the batch
            return (shares * item).sum(1)

    def program(self):
        rows = torch.export.Dim("rows", min=1)
        sample = (torch.randn(5, 3), torch.randn(5, 3))
        shapes = ({0: rows}, {0: rows})
        return torch.export.export(self.Mixing(), sample, dynamic_shapes=shapes)

    def test_they_are_found_by_test_and_the_operator_is_named(self):
        def sample(rows):
            random = torch.Generator().manual_seed(rows)
            return {name: torch.randn(rows, 3, generator=random) for name in ("user", "item")}

        with pytest.raises(UserError, match=r"aten\.softmax.*depend on the other rows"):
            rewrite_user_once(self.program(), ("user", "item"), ("user",), sample, always=True)
