"""One thing at a time: what was planted is found, and the program is as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import planted_ranker
import pytest
import torch

from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.sensitivity.layers import find_layers
from optimize.sensitivity.subject import open_subject
from optimize.sensitivity.trials import layer_changes, run_trials, table_changes
from optimize.tables.program import open_tables
from rankers.errors import UserError


def changes(trials, kind, treatment=None):
    return {
        each.name: each.loss.score_change
        for each in trials
        if each.kind == kind and treatment in {None, each.treatment}
    }


class TestWhatWasPlanted:
    @pytest.mark.parametrize("width", ["int4", "int8"])
    def test_the_loud_table_comes_first_and_the_one_that_nothing_reads_last(self, trials, width):
        names = list(changes(trials, "table", width))
        assert names[0] == planted_ranker.LOUD
        assert names[-2:] == [planted_ranker.QUIET, planted_ranker.UNREAD]
        assert changes(trials, "table", width)[planted_ranker.UNREAD] == 0

    def test_a_table_costs_more_the_fewer_bits_it_has(self, trials):
        found = [changes(trials, "table", x) for x in ("fp16", "int8", "int4")]
        for name in (planted_ranker.LOUD, planted_ranker.QUIET, "shelf"):
            fp16, int8, int4 = (each[name] for each in found)
            assert 0 < fp16 < int8 < int4

    @pytest.mark.parametrize("treatment", ["int8", "int4 weights"])
    def test_the_layer_with_spoilt_scales_comes_first(self, trials, treatment):
        found = changes(trials, "layer", treatment)
        first, second, *_ = found
        assert first == "spoilt"
        assert found[first] > 2 * found[second]

    def test_fields_that_no_score_depends_on_come_last_with_nothing(self, trials):
        found = changes(trials, "field")
        assert set(found) == {"user", "mood", "item", "shelf", "idle"}
        assert next(iter(found)) == "item"
        assert {name for name, change in found.items() if change == 0} == {"mood", "idle"}
        (item,) = (each for each in trials if (each.kind, each.name) == ("field", "item"))
        assert item.loss.kendall < 0.3
        assert item.bytes_before == 300 * 16 * 4
        assert item.column_bytes == 8

    def test_what_changes_nothing_costs_no_quality(self, trials):
        for each in trials:
            if each.loss.score_change == 0:
                assert each.loss.kendall == 1
                assert set(each.loss.quality) == {"auc", "gauc", "ndcg_at_10", "logloss"}
                assert all(x.low == x.high == 0 for x in each.loss.quality.values())


class TestBytesAndWork:
    def test_they_are_those_of_the_stages(self, trials):
        found = {(x.kind, x.name, x.treatment): x for x in trials}
        loud = found["table", planted_ranker.LOUD, "int8"]
        assert (loud.bytes_before, loud.bytes_after) == (300 * 64, 300 * 17)
        fine = found["layer", "fine", "int8"]
        assert (fine.bytes_before, fine.bytes_after) == (32 * 32 * 4, 32 * 32 + 32 * 4)
        work = {x.name: x.multiply_adds for x in trials if x.kind == "layer"}
        assert work == {"spoilt": 49 * 32, "fine": 32 * 32, "last": 32}
        assert fine.work_share == pytest.approx(1024 / sum(work.values()))


class TestTheProgram:
    def test_it_is_bitwise_as_it_was_whatever_was_tried(self, captured_plant):
        opened = open_subject(captured_plant, requests=10)
        held = {each.name: each.weight.clone() for each in opened.tables}
        layers = {each.name: each.weight.clone() for each in opened.layers}
        run_trials(opened, ("table", "layer", "field"), ("int4",))
        for table in opened.tables:
            assert torch.equal(table.weight, held[table.name])
        for layer in opened.layers:
            assert torch.equal(layer.weight, layers[layer.name])
        np.testing.assert_array_equal(opened.scorer.score(), opened.reference.scores)

    def test_its_scores_are_the_modules(self, subject):
        expected = planted_ranker.planted().score(subject.requests.flat())
        np.testing.assert_allclose(subject.reference.scores, expected, rtol=1e-5, atol=1e-5)

    def test_tables_are_read_as_the_stage_for_tables_writes_them(
        self, captured_plant, subject, store
    ):
        made = run_stage("quantize_tables", {"width": "int4", "min_rows": 1}, captured_plant, store)
        stage = open_predictor(made)(subject.requests.flat())
        scores = subject.scorer.score(table_changes(dict.fromkeys(subject.tables, "int4")))
        np.testing.assert_allclose(scores, stage, rtol=1e-4, atol=1e-4)

    def test_layers_compute_as_the_stage_for_layers_makes_them_a_request_at_a_time(
        self, captured_plant, subject, store
    ):
        graph = run_stage("export_onnx", {}, captured_plant, store)
        predict = open_predictor(run_stage("quantize_dynamic", {}, graph, store))
        stage = np.concatenate([predict(each.flat()) for each in subject.requests])
        chosen = dict.fromkeys(subject.layers[:2], "int8")  # the last is left by the stage
        change = layer_changes(chosen, seven_bits=subject.seven_bits)
        scores = subject.scorer.score(change)
        moved = np.abs(stage - subject.reference.scores)
        assert moved.mean() > 20 * np.abs(scores - stage).mean()


class TestLayers:
    def test_a_matrix_that_is_turned_or_applied_twice_is_one_layer(self, store):
        class Turned(planted_ranker.Planted):
            def forward(self, user, mood, item, shelf, idle):
                x = torch.cat([self.quiet(user), self.shelf(shelf)], dim=1)  # [rows, 32]
                once = torch.relu(x @ self.fine.weight.T)
                again = torch.relu(torch.stack([once, x], 1) @ self.fine.weight.T)  # [rows, 2, 32]
                return (again.sum(1) @ self.last.weight[0]) + 0 * mood + 0 * item * idle

        ranker = planted_ranker.planted()
        ranker.module.__class__ = Turned
        graph, _ = open_tables(capture(ranker, store, candidates=(1, 9)))
        (fine,) = find_layers(graph)
        assert (fine.name, len(fine.products), fine.multiply_adds) == ("fine", 2, 3 * 32 * 32)
        assert torch.equal(fine.weight, ranker.module.fine.weight)


class TestRequests:
    def test_without_labels_order_is_compared_and_quality_is_not(self, store):
        captured = capture(planted_ranker.planted(labels=False), store, candidates=(1, 9))
        opened = open_subject(captured, requests=20)
        assert len(opened.requests) == 20
        (loud, *_) = run_trials(opened, ("table",), ("int4",))
        assert loud.loss.quality == {}
        assert 0 < loud.loss.kendall_worst < loud.loss.kendall < 1
        assert 0 < loud.loss.overlap <= 1

    def test_evaluation_requests_are_never_taken_for_those_of_calibration(self, store):
        captured = capture(planted_ranker.planted(calibration=0), store, candidates=(1, 9))
        with pytest.raises(UserError, match=r"'planted' has no calibration requests.*evaluation"):
            open_subject(captured, requests=20)

    def test_other_labels_of_the_evaluation_change_nothing(self, subject, trials, store):
        ranker = planted_ranker.planted()
        judged = replace(ranker.evaluation, labels=1 - ranker.evaluation.labels)
        other = capture(replace(ranker, evaluation=judged), store, candidates=(1, 9))
        found = run_trials(open_subject(other, requests=60), ("table",), ("int8",))
        expected = [each for each in trials if each.treatment == "int8" and each.kind == "table"]
        assert [each.to_json() for each in found] == [each.to_json() for each in expected]
