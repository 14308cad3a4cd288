from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from rankers.evaluation.reliability import reliability, reliability_svg
from rankers.intervals import request_draws
from rankers.metrics import CALIBRATION_BINS, calibration_bin
from rankers.quality import quality


def sample(seed, *, levels=None):
    random = np.random.default_rng(seed)
    scores = random.random(600)
    if levels:
        scores = np.round(scores * levels) / (levels + 1) + 0.02
    labels = (random.random(600) < scores**2).astype(np.float32)
    return scores.astype(np.float32), labels, np.arange(0, 601, 20)


@pytest.mark.parametrize("levels", [None, 7, 40])
def test_bins_are_those_of_scikit_learn_with_and_without_ties(levels):
    scores, labels, offsets = sample(0, levels=levels)
    bins = reliability(scores, labels, offsets, "probability", resamples=20)
    observed, predicted = calibration_curve(
        labels, scores.astype(np.float64), n_bins=CALIBRATION_BINS, strategy="quantile"
    )
    assert [each.observed for each in bins] == pytest.approx(observed)
    assert [each.predicted for each in bins] == pytest.approx(predicted)
    assert sum(each.rows for each in bins) == 600


def test_the_calibration_error_is_the_mean_gap_of_the_plots_bins():
    scores, labels, offsets = sample(1, levels=9)
    bins = reliability(scores, labels, offsets, "probability", resamples=20)
    gaps = [abs(each.predicted - each.observed) * each.rows for each in bins]
    expected = quality(scores, labels, offsets, "probability").calibration_error
    assert sum(gaps) / 600 == pytest.approx(expected)


def test_intervals_are_over_requests_drawn_anew():
    scores, labels, offsets = sample(2)
    bins = reliability(scores, labels, offsets, "probability", resamples=40, seed=3)
    of_row = calibration_bin(scores.astype(np.float64))
    shares = []
    for draws in np.concatenate(list(request_draws(30, 40, 3, rows=30))):
        rows = np.concatenate(
            [np.tile(np.arange(r * 20, r * 20 + 20), int(n)) for r, n in enumerate(draws)]
        )
        shares.append(labels[rows][of_row[rows] == 4].mean())
    expected = np.quantile(shares, [0.025, 0.975])
    assert (bins[4].low, bins[4].high) == pytest.approx(expected)


def test_logits_have_the_bins_of_their_probabilities():
    scores, labels, offsets = sample(3)
    values = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
    logits = np.log(values / (1 - values))
    of_logits = reliability(logits, labels, offsets, "logit", resamples=20)
    plain = reliability(values, labels, offsets, "probability", resamples=20)
    assert [x.observed for x in of_logits] == [x.observed for x in plain]
    assert [x.predicted for x in of_logits] == pytest.approx([x.predicted for x in plain])


def test_the_plot_has_a_mark_for_every_bin_of_both_rankers():
    bins = reliability(*sample(4), "probability", resamples=20)
    text = reliability_svg({"one": bins, "<two>": bins[:5]}, "reliability of one")
    for words in (
        "mean predicted probability of the bin",
        "share clicked, with its 95 % interval",
        "reliability of one",
        "one",
        "&lt;two&gt;",
    ):
        assert words in text
    assert "prefers-color-scheme:dark" in text
    alone = reliability_svg({"one": bins}, "reliability of one")
    assert text.count("<use ") > alone.count("<use ") >= len(bins)
