"""The ranking gate: orders that moved are found without a label."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from optimize.capture import load_evidence
from optimize.gates import ranking_verdict
from optimize.recipe import RankingLimits, load_recipe

LOSSLESS = load_recipe("cpu-fp32").gates.ranking


@pytest.fixture(scope="module")
def evidence(captured):
    found = load_evidence(captured)
    unlabelled = dataclasses.replace(found.evaluation, labels=None)
    return dataclasses.replace(found, evaluation=unlabelled)


def judged(evidence, change, limits=LOSSLESS, *, probes=None):
    scores = change(evidence.scores).astype(np.float32)
    if probes is None:
        probes = {n: change(each).astype(np.float32) for n, (_, each) in evidence.probes.items()}
    return ranking_verdict(scores, probes, evidence, "probability", limits)


def test_the_same_order_passes_without_labels_though_scores_moved(evidence):
    found = judged(evidence, lambda scores: scores * 0.5)
    assert found.outcome == "passed"
    assert found.numbers["kendall"]["value"] == 1
    assert found.reason.startswith("top-10 overlap 1, worst tenth 1; Kendall τ 1")


def test_the_reverse_order_fails_and_names_what_is_worse(evidence):
    found = judged(evidence, lambda scores: 1 - scores)
    assert found.outcome == "failed"
    assert "Δkendall -2 [-2, -2]" in found.reason
    assert "Δoverlap" in found.reason


def test_one_request_in_ten_shows_in_the_worst_tenth_and_hardly_in_the_mean(evidence):
    offsets = evidence.evaluation.offsets

    def spoil(scores):
        spoiled = scores.copy()
        if len(scores) == offsets[-1]:
            for request in range(0, 40, 10):
                rows = slice(offsets[request], offsets[request + 1])
                spoiled[rows] = 1 - spoiled[rows]
        return spoiled

    limits = RankingLimits(kendall=0.5, kendall_worst=0.5)
    found = judged(evidence, spoil, limits)
    assert found.outcome == "failed"
    assert "Δkendall_worst" in found.reason
    assert "Δkendall " not in found.reason


def test_noise_near_a_limit_cannot_tell(evidence):
    noise = np.random.default_rng(0)
    numbers = judged(evidence, lambda x: x + noise.normal(0, 0.02, len(x))).numbers["kendall"]
    noise = np.random.default_rng(0)
    limits = RankingLimits(kendall=1 - numbers["value"] + 1e-6)
    found = judged(evidence, lambda x: x + noise.normal(0, 0.02, len(x)), limits)
    assert (found.passed, found.outcome) == (False, "cannot tell")


def test_without_limits_it_states_the_numbers_and_passes(evidence):
    found = judged(evidence, lambda scores: 1 - scores, RankingLimits())
    assert found.passed
    assert found.numbers["kendall"]["value"] == pytest.approx(-1)


def test_each_probe_is_stated(evidence):
    probes = {n: each for n, (_, each) in evidence.probes.items()}
    probes[37] = 1 - probes[37]
    found = judged(evidence, lambda scores: scores, probes=probes)
    assert found.numbers["probes"]["N=37"]["kendall"] == pytest.approx(-1)
    assert found.numbers["probes"]["N=1"] == {"overlap": None, "kendall": None}
    assert not found.passed
