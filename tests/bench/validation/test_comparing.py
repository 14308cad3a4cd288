"""Verdicts on simulated targets whose difference is known. The long version is committed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.validation.comparing import count_verdicts

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


def test_equal_targets_are_told_apart_in_few_of_many_repeats_in_spite_of_drift():
    said = count_verdicts(0.0, repeats=40, rounds=40, requests=2000, seed=1)["verdicts"]["overall"]
    assert said["faster"] + said["slower"] <= 2


def test_a_true_difference_is_found_and_never_turned_round():
    found = count_verdicts(0.05, repeats=20, rounds=100, requests=5000, seed=1)
    said = found["verdicts"]["overall"]
    assert said["slower"] >= 18
    assert said["faster"] == 0


def test_a_tail_of_the_requests_own_is_the_same_for_both_and_so_no_noise():
    found = [
        count_verdicts(0.05, repeats=15, rounds=100, requests=5000, seed=2, tail=tail)
        for tail in ("machine", "requests")
    ]
    said = [each["verdicts"]["p99"]["slower"] for each in found]
    assert said[1] > said[0]
    assert found[1]["p99_needs_requests"] < found[0]["p99_needs_requests"] / 2


def test_the_committed_result_holds_what_is_promised():
    result = json.loads((RESULTS / "comparing.json").read_text())
    checks = {
        (each["slower_by"], each["tail"]): each
        for each in result["checks"]
        if each["requests"] <= 5000
    }
    assert set(checks) == {(by, tail) for by in (0.0, 0.05) for tail in ("machine", "requests")}
    for (slower_by, _), each in checks.items():
        assert each["repeats"] == 200
        said = each["verdicts"]["overall"]
        if slower_by:
            assert said["slower"] >= 0.9 * 200
        else:
            assert said["faster"] + said["slower"] <= 0.05 * 200
    # The p99 alone takes ten times as many.
    (long,) = [each for each in result["checks"] if each["requests"] == 50_000]
    assert long["verdicts"]["p99"]["slower"] >= 0.9 * long["repeats"]
    assert long["verdicts"]["p99"]["faster"] == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_verdicts(seed):
    runs = [count_verdicts(0.05, repeats=3, rounds=20, requests=1000, seed=seed) for _ in range(2)]
    assert runs[0] == runs[1]
    assert np.isfinite(runs[0]["slower_by"])
