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


def test_the_committed_result_holds_what_is_promised():
    result = json.loads((RESULTS / "comparing.json").read_text())
    same, five = result["checks"]
    assert (same["slower_by"], five["slower_by"]) == (0.0, 0.05)
    assert same["repeats"] == five["repeats"] == 200
    assert result["requests"] <= 5000
    false = same["verdicts"]["overall"]
    assert false["faster"] + false["slower"] <= 0.05 * 200
    assert five["verdicts"]["overall"]["slower"] >= 0.9 * 200


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_verdicts(seed):
    runs = [count_verdicts(0.05, repeats=3, rounds=20, requests=1000, seed=seed) for _ in range(2)]
    assert runs[0] == runs[1]
    assert np.isfinite(runs[0]["slower_by"])
