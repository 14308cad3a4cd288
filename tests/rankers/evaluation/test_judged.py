from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from rankers.evaluation import Scored, Slice, judge_slice
from rankers.evaluation.report import evaluation_table
from rankers.requests import RequestBatch


def sample(seed, requests=40):
    """Return requests with two rankers' scores, of few values so that many tie."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 12, requests)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    rows = int(offsets[-1])
    truth = random.random(rows)
    labels = (random.random(rows) < truth).astype(np.float32)
    first = (np.round(truth * 5) / 6 + 0.05).astype(np.float32)
    second = (np.round((truth + random.random(rows)) * 2.5) / 6 + 0.05).astype(np.float32)
    batch = RequestBatch({}, {"item": random.integers(0, 9, rows)}, offsets, labels)
    return Scored(batch, "probability", first, second)


def part_of(scored, seed=0):
    rows = np.random.default_rng(seed).random(scored.requests.rows) < 0.3
    rows[:: len(rows) - 1] = True
    return Slice("some", "some of them", rows)


@pytest.mark.parametrize("seed", range(3))
def test_a_slice_is_judged_as_its_candidates_alone_would_be(seed):
    scored = sample(seed)
    part = part_of(scored, seed)
    found = judge_slice(scored, part, [3], resamples=20)
    y, s = scored.requests.labels[part.rows], scored.scores[part.rows]
    assert found.metrics["auc"] == pytest.approx(roc_auc_score(y, s))
    assert found.metrics["logloss"] == pytest.approx(log_loss(y, s.astype(float)), abs=1e-6)
    request = np.repeat(np.arange(40), scored.requests.candidates)[part.rows]
    assert (found.requests, found.rows) == (len(set(request.tolist())), len(y))
    assert found.positives == int(y.sum())
    # scikit-learn gives no NDCG for one candidate: it is 1 if that is relevant.
    values = [
        1.0 if len(y[request == each]) == 1 else ndcg_score([y[request == each]],
                                                             [s[request == each]], k=3)
        for each in np.unique(request)
        if y[request == each].any()
    ]  # fmt: skip
    assert found.metrics["ndcg_at_3"] == pytest.approx(np.mean(values))


def test_differences_are_of_the_two_rankers_on_the_slice():
    scored = sample(1, requests=100)
    found = judge_slice(scored, part_of(scored), [1, 5], resamples=100)
    assert set(found.differences) == set(found.metrics)
    for name, change in found.differences.items():
        assert change.estimate == pytest.approx(
            found.metrics[name] - found.against[name], abs=1e-12
        ), name
        assert change.low <= change.high
    assert found.differences["auc"].low > 0  # the second ranker's scores are noisier


def test_equal_rankers_do_not_differ_on_any_resample():
    scored = sample(2)
    same = Scored(scored.requests, "probability", scored.scores, scored.scores.copy())
    found = judge_slice(same, None, [5], resamples=50)
    assert all((x.low, x.high) == (0, 0) for x in found.differences.values())


def test_an_empty_slice_is_told_and_not_judged():
    scored = sample(0)
    nothing = Slice("none", "nothing", np.zeros(scored.requests.rows, dtype=bool))
    found = judge_slice(scored, nothing, [5], resamples=20)
    assert found.rows == found.requests == 0
    assert set(found.metrics.values()) == {None}
    assert "no candidate is in it" in evaluation_table([found], against=None)


def test_the_table_has_every_metric_once_with_its_interval():
    found = judge_slice(sample(0), None, [1, 5], resamples=50)
    lines = evaluation_table([found], against="other").splitlines()
    assert lines[0] == "overall"
    assert f"{found.requests} requests, {found.rows} candidates" in lines[1]
    for name, value in found.metrics.items():
        (line,) = [each for each in lines if each.split()[0] == name]
        assert f"{value:.4f}" in line
        assert f"{found.differences[name].estimate:+.5f}" in line
        if name != "calibration_error":
            interval = found.intervals[name]
            assert f"{interval.low:.4f} … {interval.high:.4f}" in line
