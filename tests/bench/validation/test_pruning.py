"""What pruning costs: how much fine-tuning is a tenth of training, and what is told of a ranker."""

from __future__ import annotations

import json
from pathlib import Path

import layered_rankers
import pytest

from bench.validation.pruning import fine_tuning_steps, prune_and_judge, row
from rankers.zoo.catalogue import ZOO

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "bench" / "results" / "validation"
# Too few evaluation requests to tell, and a ranker without a layer that could be narrower.
NOT_WITHIN = {"din", "two_tower"}


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


@pytest.fixture(scope="module")
def committed():
    return json.loads((RESULTS / "pruning.json").read_text())["rankers"]


def test_the_zoo_keeps_half_and_loses_less_than_the_limit_at_the_bad_end(committed):
    assert committed.keys() == ZOO.keys()
    assert all(each["multiply_adds_kept"] <= 0.5 for each in committed.values())
    lost = {name for name, x in committed.items() if x["changes"]["auc"]["interval"][0] <= -5e-4}
    assert lost == NOT_WITHIN


def test_the_page_on_pruning_has_these_figures(committed):
    page = (ROOT / "docs" / "pruning.md").read_text()
    assert [x for x in (row(name, each) for name, each in committed.items()) if x not in page] == []
