"""Gates: planted damage is caught and named; rounding passes."""

import dataclasses

import numpy as np
import pytest
from example_rankers import SIGNATURE

from optimize.capture import load_evidence, score_batch
from optimize.gates import judge, judge_predictor, parity_verdict, quality_verdict
from optimize.recipe import ParityLimits, QualityLimits, RankingLimits, load_recipe
from optimize.runtimes import open_predictor
from optimize.score_map import Scaled


@pytest.fixture(scope="module")
def evidence(captured):
    return load_evidence(captured)


@pytest.fixture(scope="module")
def predictor(onnx_artifact):
    return open_predictor(onnx_artifact)


@pytest.fixture(scope="module")
def scores(predictor, evidence):
    return score_batch(predictor, evidence.evaluation)


def test_an_exact_conversion_passes_every_gate(onnx_artifact, captured):
    limits = load_recipe("cpu-fp32").gates
    verdicts = judge(
        onnx_artifact,
        captured,
        limits.parity,
        limits.quality,
        ranking=limits.ranking,
        slices=limits.slices,
    )
    assert [each.gate for each in verdicts] == ["parity", "quality", "ranking", "slices"]
    assert {each.outcome for each in verdicts} == {"passed"}


def test_only_the_gates_whose_limits_are_given_are_asked(onnx_artifact, captured):
    verdicts = judge(onnx_artifact, captured, ParityLimits(), QualityLimits())
    assert [each.gate for each in verdicts] == ["parity", "quality"]


def test_scores_that_are_not_finite_are_judged_by_the_parity_gate_alone(evidence):
    def broken(columns):
        return np.full(len(columns["item"]), np.nan, np.float32)

    verdicts = judge_predictor(
        broken, evidence, SIGNATURE, ParityLimits(), QualityLimits(), ranking=RankingLimits()
    )
    assert [(each.gate, each.outcome) for each in verdicts] == [("parity", "failed")]


class TestParity:
    def test_one_score_beyond_the_limit_fails(self, predictor, scores, evidence):
        scores = scores.copy()
        scores[17] += 1e-3
        verdict = parity_verdict(predictor, scores, evidence, ParityLimits())
        assert not verdict.passed
        assert "max |Δscore| 0.001 at evaluation" in verdict.reason

    def test_a_small_shift_of_all_scores_fails_by_its_mean(self, predictor, scores, evidence):
        verdict = parity_verdict(predictor, scores + 5e-6, evidence, ParityLimits())
        assert not verdict.passed
        assert "mean |Δscore|" in verdict.reason

    def test_a_fault_at_one_number_of_candidates_is_named(self, predictor, scores, evidence):
        def faulty_alone(columns):
            found = predictor(columns)
            return found + 0.1 if len(found) == 1 else found

        verdict = parity_verdict(faulty_alone, scores, evidence, ParityLimits())
        assert not verdict.passed
        assert "at N=1 " in verdict.reason

    def test_a_single_nan_fails(self, predictor, scores, evidence):
        scores = scores.copy()
        scores[3] = np.nan
        verdict = parity_verdict(predictor, scores, evidence, ParityLimits())
        assert not verdict.passed
        assert "not finite" in verdict.reason


class TestQuality:
    def test_a_spoiled_slice_of_requests_fails(self, scores, evidence):
        offsets = evidence.evaluation.offsets
        scores = scores.copy()
        scores[: offsets[10]] = 1 - scores[: offsets[10]]
        verdict = quality_verdict(scores, evidence, "probability", QualityLimits())
        assert not verdict.passed
        assert "Δauc" in verdict.reason
        assert verdict.numbers["auc"]["high"] < 0

    def test_miscalibration_fails_though_the_order_is_kept(self, scores, evidence):
        verdict = quality_verdict(scores**2, evidence, "probability", QualityLimits())
        assert not verdict.passed
        assert "Δlogloss" in verdict.reason
        assert "Δauc" not in verdict.reason

    def test_the_interval_decides_not_the_mean(self, scores, evidence):
        noisy = scores + np.random.default_rng(0).normal(0, 0.02, len(scores)).astype(np.float32)
        numbers = quality_verdict(noisy, evidence, "relevance", QualityLimits()).numbers["auc"]
        between = (-numbers["delta"] - numbers["low"]) / 2
        assert -numbers["delta"] < between < -numbers["low"]
        limits = dataclasses.replace(QualityLimits(), auc=between, gauc=1, ndcg_at_10=1)
        assert not quality_verdict(noisy, evidence, "relevance", limits).passed

    def test_scores_that_are_no_probabilities_any_more_fail(self, scores, evidence):
        verdict = quality_verdict(scores * 3, evidence, "probability", QualityLimits())
        assert not verdict.passed
        assert "are no probabilities" in verdict.reason

    def test_too_few_requests_for_noise_cannot_tell_unless_the_limit_is_wide(
        self, scores, evidence
    ):
        noisy = scores + np.random.default_rng(0).normal(0, 0.05, len(scores)).astype(np.float32)

        def verdict(auc, cannot_tell="block"):
            limits = QualityLimits(auc, 1, 1, cannot_tell=cannot_tell)
            return quality_verdict(noisy, evidence, "relevance", limits)

        numbers = verdict(1).numbers["auc"]
        assert numbers["high"] < numbers["delta"] / 4 < 0
        between = -(numbers["low"] + numbers["delta"]) / 2
        strict = verdict(between)
        assert (strict.passed, strict.outcome) == (False, "cannot tell")
        assert "more requests: Δauc" in strict.reason
        assert verdict(between, "pass").passed
        assert verdict(-numbers["low"]).outcome == "passed"
        assert verdict(-numbers["high"] / 2, "pass").outcome == "failed"

    def test_a_metric_at_another_cutoff_is_held_too(self, scores, evidence):
        limits = QualityLimits(1, 1, 1, 1, 1, also={"ndcg_at_3": 0.0})
        assert quality_verdict(scores, evidence, "relevance", limits).passed
        verdict = quality_verdict(-scores, evidence, "relevance", limits)
        assert not verdict.passed
        assert "Δndcg_at_3" in verdict.reason
        assert "Δauc" not in verdict.reason

    def test_near_ties_that_rounding_swaps_are_no_loss(self, evidence):
        random = np.random.default_rng(0)
        original = (0.5 + random.uniform(-5e-5, 5e-5, len(evidence.scores))).astype(np.float32)
        rounded = np.nextafter(original, random.integers(0, 2, len(original)).astype(np.float32))
        verdict = quality_verdict(
            rounded, dataclasses.replace(evidence, scores=original), "probability", QualityLimits()
        )
        numbers = verdict.numbers["auc"]
        assert abs(numbers["value"] - numbers["reference"]) > 1e-6  # more than the limit
        assert verdict.passed
        assert verdict.numbers["moved_rows"] == 0

    def test_a_monotone_change_of_relevance_scores_passes(self, scores, evidence):
        assert quality_verdict(scores * 3 + 1, evidence, "relevance", QualityLimits()).passed


class TestScoresChangedOnPurpose:
    """An artifact that states how it changes scores is held against that."""

    MAP = Scaled(0.6, -0.4, probability=True)

    def verdicts(self, evidence, change):
        def served(columns, *, rng=np.random.default_rng(0)):  # noqa: B008 - drawn in order
            original = known[columns["price"].tobytes()]
            return change(original, rng.uniform(-1, 1, len(original)))

        known = {
            each.flat()["price"].tobytes(): expected for each, expected in evidence.probes.values()
        }
        known[evidence.evaluation.flat()["price"].tobytes()] = evidence.scores
        found = judge_predictor(
            served,
            evidence,
            SIGNATURE,
            ParityLimits(),
            dataclasses.replace(QualityLimits(), logloss=1, calibration_error=1),
            ranking=RankingLimits(kendall=1e-4, overlap=1e-4),
            score_map=self.MAP,
        )
        return {each.gate: each for each in found}

    def test_what_rounding_moves_from_where_it_was_meant_to_be_is_no_loss(self, evidence):
        steps = np.random.default_rng(1).integers(0, 8, len(evidence.scores)) * 3e-7
        near = (np.round(evidence.scores.clip(0.02, 0.98), 2) + steps).astype(np.float32)
        found = self.verdicts(
            dataclasses.replace(evidence, scores=near),
            lambda scores, noise: self.MAP(scores) + (noise * 1e-6).astype(np.float32),
        )
        assert {each.outcome for each in found.values()} == {"passed"}
        assert found["quality"].numbers["auc"]["delta"] == 0

    def test_one_that_stayed_as_it_was_is_not_what_was_stated(self, evidence):
        found = self.verdicts(evidence, lambda scores, _: scores)
        assert found["parity"].outcome == "failed"
