"""The stage: planted miscalibration is found, undone within the program, and passes the gates."""

from __future__ import annotations

import json
from dataclasses import replace

import miscalibrated_ranker
import numpy as np
import pytest

from optimize.build import run_stage
from optimize.capture import capture, score_batch
from optimize.gate_limits import ParityLimits, QualityLimits, RankingLimits
from optimize.gates import judge
from optimize.runtimes import open_predictor
from optimize.stages.recalibrate import REPORT
from rankers.errors import UserError
from rankers.metrics import probability_of
from rankers.requests import RequestBatch

PARITY = ParityLimits(candidates=(1, 37))
PROBES = (1, 37)


@pytest.fixture(scope="module")
def captured(store):
    """Return the ranker of one kind of score, captured."""

    def of(kind):
        return capture(miscalibrated_ranker.ranker(kind), store, candidates=PROBES)

    return of


@pytest.fixture(scope="module")
def recalibrated(captured, store):
    def made(kind="probability", **options):
        source = captured(kind)
        return run_stage("recalibrate", options, source, store, data=source)

    return made


def report(artifact):
    return json.loads((artifact.folder / REPORT).read_text())


def scores(artifact, batch):
    return score_batch(open_predictor(artifact), batch, artifact.manifest.columns_of)


def verdicts(artifact, captured):
    found = judge(artifact, captured, PARITY, QualityLimits(), ranking=RankingLimits(kendall=2e-3))
    return {each.gate: each for each in found}


def fresh():
    return miscalibrated_ranker.requests(60, 3)


def true_probability(batch):
    module = miscalibrated_ranker.ranker(factor=1.0)
    return module.score(batch.flat())


METHODS = ({"method": "temperature"}, {"method": "platt"}, {"method": "isotonic"})


class TestPlantedScale:
    @pytest.mark.parametrize("options", METHODS, ids=lambda each: each["method"])
    def test_it_is_found_and_undone(self, recalibrated, captured, options):
        artifact, batch = recalibrated(**options), fresh()
        truth = true_probability(batch)
        before = np.abs(scores(captured("probability"), batch) - truth).mean()
        after = np.abs(scores(artifact, batch) - truth).mean()
        assert before > 0.1
        assert after < 0.3 * before
        if options["method"] != "isotonic":
            assert 1 / report(artifact)["score_map"]["scale"] == pytest.approx(2, rel=0.12)

    @pytest.mark.parametrize("kind", ["logit", "relevance"])
    def test_of_scores_that_are_no_probabilities_it_is_too(self, recalibrated, kind):
        artifact, batch = recalibrated(kind, method="platt"), fresh()
        assert artifact.manifest.signature.score == "logit"
        found = probability_of(scores(artifact, batch), "logit")
        assert np.abs(found - true_probability(batch)).mean() < 0.03

    def test_the_report_has_both_sides_of_the_fit(self, recalibrated):
        found = report(recalibrated(method="platt"))
        assert (found["fitted_on"], found["judged_on"]) == (120, 80)
        assert found["after"]["logloss"] < found["before"]["logloss"] - 0.02
        assert found["after"]["calibration_error"] < 0.5 * found["before"]["calibration_error"]
        assert found["changes"]["logloss"]["high"] < 0
        assert found["folded"]

    def test_it_goes_before_the_last_sigmoid_or_after_a_score_without_one(self, recalibrated):
        assert report(recalibrated(method="platt"))["place"] == "before the last sigmoid"
        apart = recalibrated("two heads", method="platt")
        assert report(apart)["place"] == "after the score"
        assert np.abs(scores(apart, fresh()) - true_probability(fresh())).mean() < 0.03


class TestOrder:
    @pytest.mark.parametrize("options", METHODS, ids=lambda each: each["method"])
    def test_no_candidates_change_places(self, recalibrated, captured, options):
        batch = fresh()
        old = scores(captured("probability"), batch)
        new = scores(recalibrated(**options), batch)
        ranked = new[np.argsort(old, kind="stable")]
        assert (np.diff(ranked) >= -1e-7).all()
        assert report(recalibrated(**options))["tied"] == 0

    def test_steps_tie_candidates_and_say_how_many(self, recalibrated):
        artifact = recalibrated(method="isotonic", strict=False)
        found = report(artifact)
        assert 0.01 < found["tied"] / found["pairs"] < 0.5
        assert f"{found['tied']:,} of {found['pairs']:,} pairs" in artifact.manifest.notes[-1]


class TestGates:
    def test_the_strictest_limits_hold_for_the_onnx_graph(self, recalibrated, captured, store):
        artifact = recalibrated(method="isotonic")
        exported = run_stage("export_onnx", {}, artifact, store)
        np.testing.assert_allclose(scores(exported, fresh()), scores(artifact, fresh()), atol=2e-6)
        found = verdicts(exported, captured("probability"))
        assert {gate: each.passed for gate, each in found.items()} == {
            "parity": True,
            "quality": True,
            "ranking": True,
        }
        assert found["quality"].numbers["logloss"]["high"] < 0

    def test_the_users_part_can_be_split_off_afterwards(self, recalibrated, captured, store):
        split = run_stage("user_once", {"when": "always"}, recalibrated(method="platt"), store)
        assert split.manifest.layout == "user_once"
        assert verdicts(split, captured("probability"))["parity"].passed

    def test_it_can_be_put_after_the_split(self, captured, store):
        source = captured("probability")
        split = run_stage("user_once", {"when": "always"}, source, store)
        artifact = run_stage("recalibrate", {"method": "isotonic"}, split, store, data=source)
        assert artifact.manifest.layout == "user_once"
        assert all(each.passed for each in verdicts(artifact, source).values())

    def test_a_map_that_the_program_does_not_have_fails_parity(self, recalibrated, captured):
        original, stated = captured("probability"), recalibrated(method="platt").manifest.score_map
        lying = replace(original, manifest=replace(original.manifest, score_map=stated))
        assert not verdicts(lying, original)["parity"].passed

    def test_scores_changed_on_purpose_for_the_worse_fail_quality(self, captured, store):
        """Fitted to clicks that are not the evaluation's: the gates look at those alone."""
        source = captured("probability")
        other = miscalibrated_ranker.requests(200, 2)
        biased = RequestBatch(other.user, other.items, other.offsets, other.labels.copy())
        biased.labels[::3] = 1
        misled = capture(miscalibrated_ranker.ranker(calibration=biased), store, candidates=PROBES)
        artifact = run_stage("recalibrate", {}, misled, store, data=misled)
        found = verdicts(artifact, source)
        assert found["parity"].passed
        assert not found["quality"].passed
        assert "calibration_error" in found["quality"].reason


class TestWhatDoesNotHelp:
    def test_a_calibrated_ranker_stays_as_it_is(self, store):
        source = capture(miscalibrated_ranker.ranker(factor=1.0), store, candidates=PROBES)
        artifact = run_stage("recalibrate", {}, source, store, data=source)
        assert not report(artifact)["folded"]
        assert artifact.manifest.score_map == {}
        assert "kept as it is" in artifact.manifest.notes[-1]
        np.testing.assert_array_equal(scores(artifact, fresh()), scores(source, fresh()))

    def test_one_that_ranks_backwards_is_refused(self, store):
        source = capture(miscalibrated_ranker.ranker(factor=-1.0), store, candidates=PROBES)
        for method, said in (("platt", "ranks backwards"), ("isotonic", "does not rise")):
            with pytest.raises(UserError, match=said):
                run_stage("recalibrate", {"method": method}, source, store, data=source)


class TestCalibrationRequests:
    def refused(self, calibration, store, match):
        source = capture(
            miscalibrated_ranker.ranker(calibration=calibration), store, candidates=PROBES
        )
        with pytest.raises(UserError, match=match):
            run_stage("recalibrate", {}, source, store, data=source)

    def test_without_labels_they_are_refused(self, store):
        given = fresh()
        unlabelled = RequestBatch(given.user, given.items, given.offsets)
        self.refused(unlabelled, store, "have no labels.*give Ranker")

    def test_too_few_are_refused(self, store):
        self.refused(miscalibrated_ranker.requests(30, 2), store, "at least 20 of each")

    def test_grades_are_refused(self, store):
        given = fresh()
        graded = RequestBatch(given.user, given.items, given.offsets, given.labels * 3)
        self.refused(graded, store, "grades have no probability")

    def test_those_of_the_evaluation_are_refused(self):
        leaked = miscalibrated_ranker.requests(150, 1).select(np.arange(40))
        with pytest.raises(UserError, match="40 of 40 calibration requests are evaluation"):
            miscalibrated_ranker.ranker(calibration=leaked)
