"""The joint choice: within its budget as measured at once, and what matters stays wide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import planted_ranker
import pytest
from torch import nn

from optimize.capture import capture
from optimize.sensitivity.budget import Budget, parse_budget
from optimize.sensitivity.greedy import can_be_int8, choose
from optimize.sensitivity.subject import open_subject
from optimize.sensitivity.trials import layer_changes, run_trials, table_changes
from rankers.errors import UserError


def measured(subject, choice):
    """The choice scored apart from what chose it."""
    tables = {x: choice.widths[x.name] for x in subject.tables if x.name in choice.widths}
    layers = {x: "int8" for x in subject.layers if x.name in choice.layers}
    changes = table_changes(tables) | layer_changes(layers, seven_bits=subject.seven_bits)
    return subject.scorer.score(changes)


class TestBudget:
    @pytest.mark.parametrize("limit", [0.0015, 0.03])
    def test_it_is_kept_by_everything_at_once(self, subject, trials, chosen, limit):
        choice = chosen(f"score={limit}")
        before, after = subject.reference.scores.astype(float), measured(subject, choice)
        change = np.abs(after - before).mean() / before.std()
        assert choice.loss.score_change == pytest.approx(change, rel=1e-6)
        assert 0 < change <= limit
        sizes = {(x.name, x.treatment): x.bytes_after for x in trials if x.kind == "table"}
        held = {x.name: x.bytes for x in subject.tables}
        after_bytes = sum(
            sizes[name, choice.widths[name]] if name in choice.widths else size
            for name, size in held.items()
        )
        assert choice.table_bytes == (sum(held.values()), after_bytes)

    def test_more_may_change_for_fewer_bytes(self, chosen):
        found = [chosen(f"score={x}") for x in (0.0015, 0.03)]
        assert found[1].table_bytes[1] < found[0].table_bytes[1]

    def test_one_of_a_metric_is_kept_at_the_bad_end_of_its_interval(self, subject, trials, chosen):
        choice = chosen("auc=0.003")
        assert choice.widths
        assert choice.loss.quality["auc"].low >= -0.003
        refused = [each for each in choice.steps if not each.taken]
        assert refused

    def test_what_matters_most_stays_wide_and_what_is_not_read_gets_narrow(self, chosen):
        choice = chosen("score=0.03")
        assert choice.widths[planted_ranker.UNREAD] == "int4"
        assert choice.widths[planted_ranker.LOUD] != "int4"
        assert choice.layers == ("fine",)
        assert choice.kept == {"spoilt": "the budget", "last": "last"}
        assert choice.work_share == pytest.approx(1024 / (49 * 32 + 1024 + 32))

    def test_a_step_is_left_out_only_if_the_budget_would_not_hold_and_later_ones_go_on(
        self, chosen
    ):
        choice = chosen("score=0.006")
        assert all(each.taken == (each.score_change <= 0.006) for each in choice.steps)
        taken = {(each.name, each.width): each.taken for each in choice.steps}
        tried = list(taken)
        refused, later = ("fine", "int8"), (planted_ranker.LOUD, "int8")
        assert tried.index(refused) < tried.index(later)
        assert (taken[refused], taken[later]) == (False, True)


@dataclass(frozen=True)
class StricterInTheEnd(Budget):
    """Of everything at once, which alone is compared in order, less may be lost than of steps."""

    def holds(self, loss, requests):
        limit = self.limit if loss.kendall is None else self.limit / 4
        return loss.score_change <= limit


def test_steps_are_taken_back_until_the_whole_as_it_will_be_is_within_the_budget(
    subject, trials, chosen
):
    choice = choose(subject, trials, StricterInTheEnd("score", 0.006))
    assert 0 < choice.loss.score_change <= 0.0015
    back = [each for each in choice.steps if not each.taken and each.score_change <= 0.006]
    assert [each.name for each in back] == ["shelf", planted_ranker.LOUD]
    held = chosen("score=0.0015").widths
    assert choice.widths == held


class Twins(nn.Module):
    """Two tables with the same rows, read by the same IDs: their errors are the same."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Embedding(300, 16), nn.Embedding(300, 16)
        self.other.load_state_dict(self.one.state_dict())

    def forward(self, user, mood, item, shelf, idle):
        return (self.one(item) + self.other(item)).sum(1) + 0 * (mood + user + shelf * idle)


def test_losses_that_add_up_otherwise_are_measured_not_guessed(store):
    ranker = planted_ranker.planted()
    ranker.module.__class__ = Twins
    ranker.module._modules.clear()
    Twins.__init__(ranker.module)
    opened = open_subject(capture(ranker, store, candidates=(1, 9)), requests=40)
    trials = run_trials(opened, ("table",), ("int4",))
    alone = trials[0].loss.score_change
    # As independent errors both would fit: together they are 1.41 times what one does.
    choice = choose(opened, trials, parse_budget(f"score={1.6 * alone}"))
    assert [each.taken for each in choice.steps] == [True, False]
    assert choice.steps[1].score_change == pytest.approx(2 * alone, rel=0.01)
    assert len(choice.widths) == 1


class TestMistakes:
    @pytest.mark.parametrize("text", ["auc", "auc=", "auc=x", "auc=0", "score=-1", "score=2"])
    def test_what_is_no_budget(self, text):
        with pytest.raises(UserError, match=r"--budget is .*; expected a name and a limit"):
            parse_budget(text)

    def test_a_metric_that_there_is_not(self):
        with pytest.raises(UserError, match="unknown metric 'auk'"):
            parse_budget("auk=0.1")

    def test_a_metric_without_labels(self, subject):
        unlabelled = replace(subject, requests=replace(subject.requests, labels=None))
        with pytest.raises(UserError, match=r"auc=0\.1 needs labels"):
            choose(unlabelled, [], parse_budget("auc=0.1"))


def test_the_last_layer_and_small_ones_are_left_as_the_stage_leaves_them(subject):
    assert can_be_int8(subject) == {"spoilt": "", "fine": "", "last": "last"}
