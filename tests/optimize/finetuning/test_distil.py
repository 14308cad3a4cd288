"""Fine-tuning by distillation: what a student learns, what stays, and what it is never shown."""

from __future__ import annotations

import copy
from dataclasses import replace

import example_rankers
import numpy as np
import pytest
import torch

from optimize.artifact import Manifest
from optimize.export import export_ranker
from optimize.finetuning.distil import distil
from optimize.finetuning.settings import DistilSettings
from optimize.finetuning.trainable import trainable_module
from optimize.samples import sample_tensors
from optimize.torch_program import load_program, save_program
from optimize.user_once.rewriting import rewrite_user_once
from rankers.errors import UserError
from rankers.features import Signature
from rankers.ranker import Ranker

MANIFEST = Manifest("deep", "torch", "model.pt2", example_rankers.SIGNATURE)
REQUESTS = example_rankers.requests(12, seed=5)
SETTINGS = DistilSettings(steps=10, batch_requests=4, learning_rate=3e-3)
TABLE = "ranker.item.weight"
FIRST = "ranker.layers.0.weight"


@pytest.fixture(scope="module")
def program():
    return export_ranker(example_rankers.deep())


@pytest.fixture
def student(program):
    return perturbed(program)


def perturbed(program, name=FIRST):
    """Return a copy of a program one of whose layers moved."""
    changed = copy.deepcopy(program)
    with torch.no_grad():
        weight = changed.state_dict[name]
        weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return changed


def learn(student, teacher, settings=SETTINGS, *, requests=REQUESTS, manifest=MANIFEST):
    return distil(
        trainable_module(student), trainable_module(teacher), requests, manifest, settings
    )


def values(program):
    return {name: x.detach().numpy().tobytes() for name, x in program.state_dict.items()}


class TestLearning:
    def test_a_student_comes_nearer_to_its_teacher_on_requests_it_did_not_learn_from(
        self, program, student
    ):
        report = learn(student, program)
        assert report.loss_after < 0.5 * report.loss_before
        assert report.loss_after == min(loss for _, loss in report.course)
        assert (report.learnt_from, report.held_out) == (10, 2)
        again = learn(student, program, replace(SETTINGS, steps=0))
        assert again.loss_before == pytest.approx(report.loss_after, rel=1e-6)

    @pytest.mark.parametrize("kind", ["logit", "relevance"])
    def test_it_does_so_for_every_kind_of_score(self, program, student, kind):
        manifest = replace(MANIFEST, signature=Signature(MANIFEST.signature.features, kind))
        report = learn(student, program, manifest=manifest)
        assert report.loss_after < 0.5 * report.loss_before

    def test_a_teacher_teaches_itself_nothing(self, program):
        untouched = values(program)
        report = learn(copy.deepcopy(program), program)
        assert report.loss_before < 1e-6
        assert report.best_step == 0
        assert values(program) == untouched

    def test_what_was_learnt_is_in_the_program_and_is_saved_with_it(
        self, program, student, tmp_path
    ):
        before = values(student)
        learn(student, program)
        assert values(student)[FIRST] != before[FIRST]
        save_program(student, tmp_path / "model.pt2")
        assert values(load_program(tmp_path / "model.pt2")) == values(student)

    def test_a_rate_that_destroys_leaves_the_student_as_it_came(self, program, student):
        before = values(student)
        report = learn(student, program, replace(SETTINGS, learning_rate=0.9, patience=2))
        assert (report.best_step, report.steps) == (0, 2)
        assert report.loss_after == report.loss_before
        assert values(student) == before

    def test_labels_pull_a_student_from_its_teacher(self, program):
        labels = 1 - REQUESTS.labels
        requests = replace(REQUESTS, labels=labels)
        settings = replace(SETTINGS, labels_weight=1.0)
        report = learn(copy.deepcopy(program), program, settings, requests=requests)
        assert report.best_step > 0

    def test_a_program_that_takes_each_user_once_learns_as_a_flat_one(self, program):
        signature = MANIFEST.signature
        found = rewrite_user_once(
            program,
            [each.name for each in signature.features],
            [each.name for each in signature.user],
            sample_tensors(signature),
            always=True,
        )
        manifest = replace(MANIFEST, layout="user_once")
        second = "rewritten.ranker.layers.2.weight"
        student = perturbed(found.program, second)
        report = learn(student, found.program, manifest=manifest)
        assert second in report.trained
        assert report.loss_after < 0.5 * report.loss_before


class TestStaying:
    def test_tables_stay_bit_by_bit_and_what_is_frozen_by_name_does_too(self, program, student):
        before = values(student)
        report = learn(student, program, replace(SETTINGS, frozen=("*.layers.2.*",)))
        after = values(student)
        same = {name for name in before if before[name] == after[name]}
        assert same == {TABLE, "ranker.layers.2.weight", "ranker.layers.2.bias"}
        assert report.stayed == dict.fromkeys(sorted(same - {TABLE}, reverse=True), "frozen") | {
            TABLE: "a table"
        }
        assert set(report.trained) == set(before) - same

    def test_tables_learn_if_they_are_asked_to(self, program, student):
        before = values(student)
        learn(student, program, replace(SETTINGS, train_tables=True))
        assert values(student)[TABLE] != before[TABLE]

    def test_what_asks_for_gradients_is_as_before(self, program, student):
        module = trainable_module(student)
        distil(module, trainable_module(program), REQUESTS, MANIFEST, SETTINGS)
        assert all(x.requires_grad and x.grad is None for x in module.parameters())

    def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(self, program):
        made = []
        for seed in (0, 0, 1):
            student = perturbed(program)
            learn(student, program, replace(SETTINGS, seed=seed))
            made.append(values(student))
        assert made[0] == made[1]
        assert made[0] != made[2]


class TestRefusals:
    def test_requests_that_judge_the_ranker_never_get_here(self):
        ranker = example_rankers.deep()
        leaked = ranker.evaluation.slice(3, 5)
        with pytest.raises(UserError, match="2 of 2 calibration requests are evaluation requests"):
            Ranker("deep", ranker.module, ranker.signature, ranker.evaluation, calibration=leaked)

    def test_copies_of_a_request_are_all_learnt_from_or_all_held_out(self, program, student):
        copies = REQUESTS.select([0, 1, 0, 0, 1, 0])
        report = learn(student, program, replace(SETTINGS, held_out=0.5), requests=copies)
        assert {report.learnt_from, report.held_out} == {4, 2}

    def test_one_request_is_too_few(self, program, student):
        with pytest.raises(UserError, match="there are 1 among 3"):
            learn(student, program, requests=REQUESTS.select([2, 2, 2]))

    def test_labels_are_needed_where_they_are_asked_for(self, program, student):
        settings = replace(SETTINGS, labels_weight=0.1)
        with pytest.raises(UserError, match="the calibration requests have no labels"):
            learn(student, program, settings, requests=replace(REQUESTS, labels=None))
        grades = replace(REQUESTS, labels=np.full(REQUESTS.rows, 3, np.float32))
        with pytest.raises(UserError, match="labels run from 3 to 3"):
            learn(student, program, settings, requests=grades)

    def test_a_pattern_that_fits_nothing_or_everything_is_refused(self, program, student):
        with pytest.raises(UserError, match="'tower', which fits no parameter"):
            learn(student, program, replace(SETTINGS, frozen=("tower",)))
        with pytest.raises(UserError, match="nothing can be fine-tuned"):
            learn(student, program, replace(SETTINGS, frozen=("*",)))

    @pytest.mark.parametrize(
        "option", [{"steps": -1}, {"learning_rate": 0.0}, {"held_out": 1.0}, {"patience": 0}]
    )
    def test_settings_that_cannot_be_are_refused(self, option):
        with pytest.raises(UserError, match=rf"fine-tuning: {next(iter(option))} is"):
            DistilSettings(**option)
