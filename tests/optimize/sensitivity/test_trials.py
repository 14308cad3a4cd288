"""One thing at a time: what was planted is found, and the program is as it was."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import planted_ranker
import pytest
import torch

from optimize.artifact import EVIDENCE
from optimize.capture import EVALUATION, capture
from optimize.sensitivity.layers import find_layers
from optimize.sensitivity.subject import open_subject
from optimize.sensitivity.trials import run_trials
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
    def test_it_is_bitwise_as_it_was_whatever_was_tried(self, subject, trials):
        assert len(trials) == 23
        state = planted_ranker.planted().module.state_dict()
        for each in (*subject.tables, *subject.layers):
            assert torch.equal(each.weight, state[f"{each.name}.weight"])
        np.testing.assert_array_equal(subject.scorer.score(), subject.reference.scores)

    def test_its_scores_are_the_modules(self, subject):
        expected = planted_ranker.planted().score(subject.requests.flat())
        np.testing.assert_allclose(subject.reference.scores, expected, rtol=1e-5, atol=1e-5)


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
    def test_without_labels_order_is_compared_and_quality_is_not(self, subject):
        unlabelled = replace(subject.requests, labels=None)
        reference = replace(subject.reference, requests=unlabelled)
        quiet = replace(subject, requests=unlabelled, reference=reference)
        (loud, *_) = run_trials(quiet, ("table",), ("int4",))
        assert loud.loss.quality == {}
        assert 0 < loud.loss.kendall_worst < loud.loss.kendall < 1
        assert 0 < loud.loss.overlap <= 1

    def test_evaluation_requests_are_never_taken_for_those_of_calibration(self, captured):
        with pytest.raises(UserError, match=r"'tiny' has no calibration requests.*evaluation"):
            open_subject(captured, requests=20)

    def test_the_evaluation_is_not_even_opened(self, captured_plant, tmp_path):
        copy = shutil.copytree(captured_plant.folder, tmp_path / "copy")
        for name in (EVALUATION, "scores.safetensors"):
            (copy / EVIDENCE / name).unlink()
        opened = open_subject(replace(captured_plant, folder=copy), requests=7)
        assert len(opened.requests) == 7
        assert opened.reference.requests.rows == len(opened.reference.scores)
