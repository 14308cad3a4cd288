from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from rankers.cutoffs import Ties, mrr_at
from rankers.errors import UserError
from rankers.intervals import request_draws
from rankers.metrics import metric_names
from rankers.quality import (
    CALIBRATION_BINS,
    METRICS,
    quality,
    quality_difference,
    quality_intervals,
)


def sample(seed: int, requests: int = 12, *, levels: int = 6):
    """Return scores with ties, labels and offsets of random requests."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(2, 25, requests)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = int(offsets[-1])
    scores = (generator.integers(0, levels, rows) / levels + 0.05).astype(np.float32)
    labels = (generator.random(rows) < 0.3).astype(np.float32)
    labels[:2] = 0, 1
    return scores, labels, offsets


def by_scikit_learn(scores, labels, offsets, picked):
    """Return the metrics of the requests ``picked``, with repeats, by scikit-learn."""
    pieces = [slice(offsets[each], offsets[each + 1]) for each in picked]
    y = np.concatenate([labels[each] for each in pieces])
    s = np.concatenate([scores[each] for each in pieces]).astype(np.float64)
    both = [each for each in pieces if 0 < labels[each].sum() < len(labels[each])]
    relevant = [each for each in pieces if labels[each].sum() > 0]
    return {
        "auc": roc_auc_score(y, s),
        "gauc": np.average(
            [roc_auc_score(labels[each], scores[each]) for each in both],
            weights=[len(labels[each]) for each in both],
        ),
        "ndcg_at_10": np.mean([ndcg_score([labels[x]], [scores[x]], k=10) for x in relevant]),
        "logloss": log_loss(y, s),
    }


class TestQuality:
    @pytest.mark.parametrize("seed", range(5))
    def test_metrics_are_those_of_scikit_learn_with_ties(self, seed):
        scores, labels, offsets = sample(seed)
        found = quality(scores, labels, offsets, "probability").to_json()
        for name, value in by_scikit_learn(scores, labels, offsets, range(12)).items():
            assert found[name] == pytest.approx(value, abs=1e-9), name

    def test_ndcg_takes_grades_as_linear_gains(self):
        scores = np.array([0.3, 0.9, 0.9, 0.1])
        labels = np.array([3.0, 0.0, 1.0, 2.0])
        found = quality(scores, labels, np.array([0, 4]), "relevance")
        assert found.ndcg_at_10 == pytest.approx(ndcg_score([labels], [scores], k=10))

    def test_calibration_error_is_zero_where_each_bins_clicks_match_its_probability(self):
        scores = np.repeat([0.25, 0.75], 40)
        labels = np.concatenate([np.tile([1, 0, 0, 0], 10), np.tile([1, 1, 1, 0], 10)])
        found = quality(scores, labels.astype(np.float32), np.array([0, 80]), "probability")
        assert found.calibration_error == pytest.approx(0, abs=1e-12)

    def test_calibration_error_is_the_mean_gap_over_bins_of_equal_mass(self):
        generator = np.random.default_rng(0)
        scores = np.sort(generator.random(CALIBRATION_BINS * 20))
        labels = (generator.random(len(scores)) < 0.5).astype(np.float32)
        gaps = [abs(np.mean(scores[i : i + 20] - labels[i : i + 20])) for i in range(0, 300, 20)]
        found = quality(scores, labels, np.array([0, len(scores)]), "probability")
        assert found.calibration_error == pytest.approx(np.mean(gaps))

    def test_logits_are_judged_as_the_probabilities_they_stand_for(self):
        scores, labels, offsets = sample(3)
        scores = scores.astype(np.float64) * 0.8
        logits = np.log(scores / (1 - scores))
        expected = quality(scores, labels, offsets, "probability").to_json()
        assert quality(logits, labels, offsets, "logit").to_json() == pytest.approx(expected)

    def test_extreme_logits_have_a_finite_loss(self):
        scores, labels = np.array([800.0, -800.0]), np.array([0.0, 1.0])
        found = quality(scores, labels, np.array([0, 2]), "logit")
        assert found.logloss == pytest.approx(800)

    def test_relevance_has_no_loss_and_no_calibration(self):
        found = quality(*sample(0), "relevance")
        assert found.auc is not None
        assert (found.logloss, found.calibration_error) == (None, None)

    def test_metrics_that_need_a_click_are_none_without_one(self):
        scores, labels, offsets = sample(0)
        found = quality(scores, np.zeros_like(labels), offsets, "probability")
        assert (found.auc, found.gauc, found.ndcg_at_10) == (None, None, None)
        assert found.logloss is not None

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_scores_that_are_not_finite_are_refused_with_their_row(self, bad):
        scores, labels, offsets = sample(0)
        scores[7] = bad
        with pytest.raises(UserError, match=r"1 of \d+ scores are not finite.*row 7"):
            quality(scores, labels, offsets, "relevance")

    def test_probabilities_above_one_are_refused(self):
        with pytest.raises(UserError, match="a score is 2, but the signature says probability"):
            quality(np.array([2.0, 0.5]), np.array([0.0, 1.0]), np.array([0, 2]), "probability")

    def test_grades_are_refused_where_clicks_are_needed(self):
        with pytest.raises(UserError, match="graded labels need score kind 'relevance'"):
            quality(np.array([0.2, 0.5]), np.array([0.0, 4.0]), np.array([0, 2]), "logit")

    def test_lengths_that_differ_are_refused(self):
        scores, labels, offsets = sample(0)
        with pytest.raises(UserError, match="expected one of each for every candidate"):
            quality(scores[:-1], labels, offsets, "probability")


class TestQualityDifference:
    @pytest.mark.parametrize("seed", range(3))
    def test_interval_is_that_of_scikit_learn_on_the_same_resamples(self, seed):
        reference, labels, offsets = sample(seed)
        scores, _, _ = sample(seed)
        scores = np.clip(scores + np.random.default_rng(9).integers(0, 2, len(scores)) / 6, 0, 1)
        found = quality_difference(
            reference, scores, labels, offsets, "probability", resamples=20, seed=seed
        )
        differences: dict[str, list[float]] = {}
        for draws in np.concatenate(list(request_draws(12, 20, seed, rows=len(labels)))):
            picked = np.repeat(np.arange(12), draws.astype(int))
            old = by_scikit_learn(reference, labels, offsets, picked)
            new = by_scikit_learn(scores, labels, offsets, picked)
            for name in old:
                differences.setdefault(name, []).append(new[name] - old[name])
        for name, values in differences.items():
            low, high = np.quantile(values, [0.025, 0.975])
            assert found[name].low == pytest.approx(low, abs=1e-9), name
            assert found[name].high == pytest.approx(high, abs=1e-9), name

    def test_blocks_do_not_change_the_interval(self, monkeypatch):
        reference, labels, offsets = sample(1)
        scores = 1 - reference
        whole = quality_difference(reference, scores, labels, offsets, "probability")
        monkeypatch.setattr("rankers.intervals._BLOCK_BYTES", 8 * len(labels) * 7)
        pieces = quality_difference(reference, scores, labels, offsets, "probability")
        for name, interval in whole.items():  # a matrix product may round differently by its size
            assert pieces[name].low == pytest.approx(interval.low, abs=1e-12), name
            assert pieces[name].high == pytest.approx(interval.high, abs=1e-12), name

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 1000))
    def test_a_ranker_does_not_differ_from_itself(self, seed):
        scores, labels, offsets = sample(seed)
        found = quality_difference(
            scores, scores.copy(), labels, offsets, "probability", resamples=50
        )
        assert set(found) == set(METRICS)
        assert all((x.estimate, x.low, x.high) == (0, 0, 0) for x in found.values())

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 1000))
    def test_exchanging_the_two_rankers_turns_the_interval_round(self, seed):
        first, labels, offsets = sample(seed)
        second, _, _ = sample(seed + 1, levels=9)
        second = np.resize(second, len(first))
        there = quality_difference(first, second, labels, offsets, "probability", resamples=50)
        back = quality_difference(second, first, labels, offsets, "probability", resamples=50)
        for name, interval in there.items():
            assert interval.low <= interval.high
            assert back[name].estimate == pytest.approx(-interval.estimate, abs=1e-12)
            assert back[name].low == pytest.approx(-interval.high, abs=1e-12)
            assert back[name].high == pytest.approx(-interval.low, abs=1e-12)

    def test_a_ranker_that_is_worse_everywhere_is_surely_worse(self):
        scores, labels, offsets = sample(0, requests=100)
        better = np.clip(scores * 0.3 + labels * 0.6, 0, 1)
        found = quality_difference(better, scores, labels, offsets, "probability")
        assert found["auc"].high < 0
        assert found["gauc"].high < 0
        assert found["logloss"].low > 0

    def test_nan_scores_are_refused(self):
        scores, labels, offsets = sample(0)
        broken = scores.copy()
        broken[3] = np.nan
        with pytest.raises(UserError, match="not finite"):
            quality_difference(scores, broken, labels, offsets, "probability")

    def test_an_undefined_metric_is_left_out(self):
        scores, labels, offsets = sample(0)
        found = quality_difference(scores, scores, labels * 0, offsets, "probability", resamples=5)
        assert set(found) == {"logloss", "calibration_error"}


def test_quality_does_not_import_torch():
    check = "import sys, rankers.quality; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_rounding_step_does_not_move_the_calibration_error_by_a_whole_row():
    random = np.random.default_rng(0)
    scores = random.random(1000).astype(np.float32)
    labels = (random.random(1000) < scores).astype(np.float32)
    offsets = np.arange(0, 1001, 20)
    moved = np.clip(scores + random.choice([-6e-8, 6e-8], 1000).astype(np.float32), 0, 1)
    change = quality_difference(scores, moved, labels, offsets, "probability")["calibration_error"]
    assert max(abs(change.low), abs(change.high)) < 1e-6


class TestMetricsByName:
    def test_metrics_at_any_cutoff_are_found_beside_the_usual_ones(self):
        scores, labels, offsets = sample(0)
        found = quality(scores, labels, offsets, "probability", more=("mrr_at_3", "ndcg_at_10"))
        assert found.value("ndcg_at_10") == found.ndcg_at_10
        assert list(found.to_json()) == [*METRICS, "mrr_at_3"]
        ties = Ties.of(scores, labels, offsets)
        assert found.value("mrr_at_3") == pytest.approx(np.nanmean(mrr_at(3, ties)))

    @pytest.mark.parametrize("name", ["mrr", "mrr_at_0", "map_at_3", "ndgc_at_10"])
    def test_an_unknown_metric_is_answered_with_the_nearest(self, name):
        with pytest.raises(UserError, match=f"unknown metric '{name}'; (did you mean|known)"):
            quality(*sample(0), "probability", more=(name,))

    def test_intervals_hold_the_estimate_and_leave_the_calibration_error_out(self):
        names = metric_names([1, 5])
        scores, labels, offsets = sample(0, requests=60)
        found = quality_intervals(scores, labels, offsets, "probability", names, resamples=200)
        usual = quality(scores, labels, offsets, "probability", more=names)
        assert set(found) == set(names) - {"calibration_error"}
        for name, each in found.items():
            assert each.low < each.estimate < each.high
            assert each.estimate == usual.value(name)

    def test_the_interval_is_that_of_the_requests_drawn_anew(self):
        scores, labels, offsets = sample(4)
        found = quality_intervals(
            scores, labels, offsets, "probability", ["gauc"], resamples=30, seed=5
        )["gauc"]
        values = [
            by_scikit_learn(scores, labels, offsets, np.repeat(np.arange(12), row.astype(int)))[
                "gauc"
            ]
            for row in np.concatenate(list(request_draws(12, 30, 5, rows=len(labels))))
        ]
        assert (found.low, found.high) == pytest.approx(np.quantile(values, [0.025, 0.975]))
