"""What rounding loses without fine-tuning and with it."""

from __future__ import annotations

import json
from pathlib import Path

import layered_rankers
import pytest

from bench.validation.quantize_aware import WAYS, describe, round_and_judge, row

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def committed():
    file = ROOT / "bench" / "results" / "validation" / "quantize-aware.json"
    return json.loads(file.read_text())["rankers"]


def test_each_way_is_judged_without_fine_tuning_and_with_it(tmp_path):
    found = round_and_judge(f"{layered_rankers.FILE}:plain", 3, tmp_path)

    assert found["rows"] == layered_rankers.requests().rows
    assert set(found["ways"]) == set(WAYS)
    for one in found["ways"].values():
        assert any("learnt" in note for note in one["notes"])
        for metric, gained in one["gained"].items():
            low, high = gained["interval"]
            assert low <= gained["change"] <= high, metric
        # What was gained is the rest of both losses; of ranks it is not, where scores nearly tie.
        changes = [one[which]["logloss"]["change"] for which in ("without", "with", "gained")]
        assert changes[1] - changes[0] == pytest.approx(changes[2], abs=1e-9)
    # The ways do round, each otherwise.
    assert len({one["without"]["logloss"]["change"] for one in found["ways"].values()} - {0}) == 3
    json.dumps(found)


def test_a_line_has_both_changes_and_what_was_gained():
    change = {"auc": {"change": -0.01, "interval": [-0.02, 0.0]}}
    gained = {"auc": {"change": 0.009, "interval": [0.001, 0.02]}}
    said = describe("dlrm", "int4", {"without": change, "with": change, "gained": gained})
    assert said.endswith(
        "auc: without -0.01 [-0.02, +0], with -0.01 [-0.02, +0], gained +0.009 [+0.001, +0.02]"
    )


def test_the_page_on_fine_tuning_has_these_figures(committed):
    page = (ROOT / "docs" / "finetuning.md").read_text()
    rows = [row(name, way, x) for name, one in committed.items() for way, x in one["ways"].items()]
    assert rows
    assert [each for each in rows if each not in page] == []


def test_what_narrow_ranges_lose_is_won_back_on_every_ranker(committed):
    for one in committed.values():
        narrow = one["ways"]["int8, ranges too narrow"]
        assert narrow["without"]["auc"]["interval"][1] < -1e-3
        assert narrow["with"]["auc"]["interval"][0] > -5e-4
