"""The gate of slices: what the mean hides is found and named; what is too small is named, too."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from example_rankers import SIGNATURE, TinyRanker, requests

from optimize.capture import Evidence
from optimize.gates import quality_verdict, slices_verdict
from optimize.recipe import QualityLimits, RankingLimits, SliceLimits
from rankers.errors import UserError
from rankers.evaluation import cut_slice
from rankers.ranker import Ranker

LOSSY = QualityLimits(0.02, 0.02, 0.05, 0.02, 0.05, resamples=200)


@pytest.fixture(scope="module")
def evidence():
    evaluation = requests(300, seed=3)
    ranker = Ranker("tiny", TinyRanker(), SIGNATURE, evaluation)
    return Evidence(evaluation, ranker.score(evaluation.flat()), {})


def damaged(evidence, rows):
    scores = evidence.scores.copy()
    scores[rows] = 1 - scores[rows]
    return scores


def judged(evidence, scores, limits=None, *, ranking=None):
    return slices_verdict(
        scores, evidence, SIGNATURE, limits or SliceLimits(), quality=LOSSY, ranking=ranking
    )


def test_scores_that_did_not_move_pass_on_every_usual_slice(evidence):
    found = judged(evidence, evidence.scores, SliceLimits(cannot_tell="block"))
    assert found.outcome == "passed"
    kinds = {name.partition("<")[0].partition(">")[0] for name in found.numbers["slices"]}
    assert kinds == {"rare:item", "cold:country", "few", "many"}


def test_a_broken_slice_that_the_whole_hides_is_named(evidence):
    rare = cut_slice("rare<10%", evidence.evaluation, SIGNATURE)
    assert 0.02 < rare.rows.mean() < 0.2
    scores = evidence.scores.copy()
    scores[rare.rows] += 0.3 * (0.5 - scores[rare.rows])  # nearer to one half, in the same order
    scores[rare.rows] = damaged(evidence, rare.rows)[rare.rows]
    whole = dataclasses.replace(LOSSY, auc=0.2, gauc=0.2, ndcg_at_10=0.5, logloss=1)
    assert quality_verdict(scores, evidence, "probability", whole).passed
    found = judged(evidence, scores)
    assert found.outcome == "failed"
    assert f"of {rare.name}" in found.reason


def test_rows_raised_above_all_others_are_found_by_how_they_stand_to_them(evidence):
    rare = cut_slice("rare<10%", evidence.evaluation, SIGNATURE).rows
    scores = np.where(rare, evidence.scores + 2, evidence.scores).astype(np.float32)
    relevance = dataclasses.replace(SIGNATURE, score="relevance")
    found = slices_verdict(
        scores,
        evidence,
        relevance,
        SliceLimits(),
        quality=LOSSY,
        ranking=RankingLimits(kendall=0.02),
    )
    assert "Δkendall of rare:item" in found.reason
    assert "Δauc of rare:item" not in found.reason  # among themselves they rank as before


def test_a_slice_of_the_recipe_is_judged_beside_the_usual_ones(evidence):
    rows = cut_slice("price=..-1", evidence.evaluation, SIGNATURE).rows
    found = judged(evidence, damaged(evidence, rows), SliceLimits(also=("price=..-1",)))
    assert "of price=..-1" in found.reason
    only = SliceLimits(also=("price=..-1",), usual=False)
    assert list(judged(evidence, evidence.scores, only).numbers["slices"]) == ["price=..-1"]


def test_a_slice_of_too_few_requests_is_named_and_not_judged(evidence):
    few = np.flatnonzero(evidence.evaluation.user["country"] == 7)
    rows = np.repeat(evidence.evaluation.user["country"] == 7, evidence.evaluation.candidates)
    assert 0 < len(few) < 30
    limits = SliceLimits(also=("country=7",), usual=False)
    found = judged(evidence, damaged(evidence, rows), limits)
    assert found.passed
    assert found.reason == f"no slice to judge; too few to judge: country=7 ({len(few)} requests)"
    assert found.numbers["slices"]["country=7"]["judged"] is False


def test_a_slice_with_hardly_a_click_is_no_proof_of_what_clicks_tell(evidence):
    labels = evidence.evaluation.labels * (np.cumsum(evidence.evaluation.labels) <= 15)
    clicked = dataclasses.replace(evidence.evaluation, labels=labels)
    few_clicks = dataclasses.replace(evidence, evaluation=clicked)
    limits = SliceLimits(also=("price=..0",), usual=False)
    found = judged(few_clicks, 1 - evidence.scores / 10, limits).numbers["slices"]["price=..0"]
    assert found["auc"]["outcome"] == found["ndcg_at_10"]["outcome"] == "cannot tell"
    assert found["logloss"]["outcome"] == "failed"


def test_a_slice_that_cannot_tell_passes_unless_the_recipe_blocks(evidence):
    noise = np.random.default_rng(0).normal(0, 0.05, len(evidence.scores))
    scores = np.clip(evidence.scores + noise, 0, 1).astype(np.float32)
    strict = QualityLimits(0.001, 0.002, 0.003, 0.01, 0.002, resamples=200)

    def outcome(cannot_tell):
        limits = SliceLimits(factor=10, cannot_tell=cannot_tell)
        found = slices_verdict(scores, evidence, SIGNATURE, limits, quality=strict)
        return found.passed, found.outcome

    assert outcome("pass") == (True, "cannot tell")
    assert outcome("block") == (False, "cannot tell")


def test_more_slices_make_each_interval_wider(evidence):
    scores = damaged(evidence, np.arange(len(evidence.scores)) % 50 == 0)
    narrow = judged(evidence, scores, SliceLimits(usual=False, also=("price=0..",)))
    many = tuple(f"price=0..{each}" for each in range(3, 12))
    wide = judged(evidence, scores, SliceLimits(usual=False, also=("price=0..", *many)))
    assert narrow.numbers["confidence"] == pytest.approx(0.95)
    assert wide.numbers["confidence"] == pytest.approx(1 - 0.05 / 10)

    def width(verdict):
        found = verdict.numbers["slices"]["price=0.."]["auc"]
        return found["high"] - found["low"]

    assert width(wide) > 1.2 * width(narrow)


def test_what_training_met_decides_what_is_rare(evidence):
    seen = {"item": np.where(np.arange(100) < 10, 1, 1000)}
    trained = dataclasses.replace(evidence, seen=seen)
    slices = judged(trained, evidence.scores).numbers["slices"]
    assert "of training" in slices["rare:item<2"]["about"]


def test_a_slice_that_the_ranker_does_not_have_is_said(evidence):
    with pytest.raises(UserError, match="unknown feature 'colour'"):
        judged(evidence, evidence.scores, SliceLimits(also=("colour=3",)))
