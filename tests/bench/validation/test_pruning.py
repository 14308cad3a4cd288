"""What pruning costs: how much fine-tuning is a tenth of training, and what is told of a ranker."""

from __future__ import annotations

import json
from pathlib import Path

import layered_rankers
import pytest

from bench.validation.pruning import fine_tuning_steps, prune_and_judge

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


def test_a_tenth_of_the_steps_that_training_takes():
    # 400,000 rows of which a fifth is held out, 2,048 at once; 100,000 of 256 at once.
    assert fine_tuning_steps("dlrm") == 15
    assert fine_tuning_steps("din") == 31


def test_layers_and_changes_are_told_of_a_pruned_ranker(tmp_path):
    options = {"budget": 0.5, "multiple": 4, "min_width": 4, "rounds": 2}
    found = prune_and_judge(f"{layered_rankers.FILE}:plain", options, tmp_path)

    assert found["multiply_adds"][0] == 51 * 32 + 32 * 16 + 16
    assert found["multiply_adds_kept"] == pytest.approx(found["multiply_adds"][1] / 2160)
    assert found["multiply_adds_kept"] <= 0.5
    assert found["weight_bytes"] == [4 * x for x in found["multiply_adds"]]
    assert found["rows"] == layered_rankers.requests().rows
    low, high = found["changes"]["auc"]["interval"]
    assert low <= found["changes"]["auc"]["change"] <= high
    assert found["fine_tuning"] == []


def test_committed_rankers_keep_half_and_lose_less_than_the_limit_at_the_bad_end():
    rankers = json.loads((RESULTS / "pruning.json").read_text())["rankers"]
    assert {"dlrm", "dcn_v2"} <= set(rankers)
    for each in rankers.values():
        assert each["multiply_adds_kept"] <= 0.5
        assert each["changes"]["auc"]["interval"][0] > -5e-4
