"""What the documents say of factored tables on the zoo is what was committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import squares_ranker

from bench.validation.factoring import judge, row, weighed
from optimize.capture import capture

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def rankers():
    file = ROOT / "bench" / "results" / "validation" / "factoring.json"
    return json.loads(file.read_text())["rankers"]


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    store = tmp_path_factory.mktemp("factoring")
    return capture(squares_ranker.squares(), store, candidates=(1,)), store


def test_the_page_on_tables_has_these_figures(rankers):
    page = (ROOT / "docs" / "quantization.md").read_text()
    rows = [
        row(name, float(share), each["methods"], each["weighings"])
        for name, by_share in rankers.items()
        for share, each in by_share.items()
    ]
    assert rows
    assert [each for each in rows if each not in page] == []


def test_the_decision_has_the_losses_by_weighing(rankers):
    page = (ROOT / "docs" / "decisions" / "027-factored-tables.md").read_text()
    for name, by_share in rankers.items():
        for share, each in by_share.items():
            told = " | ".join(f"{x:.1e}" for x in each["weighings"].values()).replace("e-0", "e-")
            assert f"| `{name}` | {share} | {told} |" in page


def test_lower_rank_loses_less_than_quotients_on_each(rankers):
    for by_share in rankers.values():
        for each in by_share.values():
            losses = {name: min(x["losses"]) for name, x in each["methods"].items()}
            assert losses["low_rank"] < losses["quotient_remainder"]


def test_a_ranker_is_judged_on_requests_that_the_stage_did_not_see(squares):
    captured, store = squares
    options = {"share": 0.3, "steps": 20, "tables": "table", "method": "quotient_remainder"}
    found = judge(captured, options, store)
    assert found["bytes"][1] < found["bytes"][0]
    assert found["losses"][1] < found["losses"][0]
    assert found["changed"] == 1
    low, high = found["changes"]["auc"]["interval"]
    assert low <= found["changes"]["auc"]["change"] <= high


def test_what_scores_follow_pays(squares):
    losses = weighed(squares[0], 0.5)
    assert losses["reads and slopes"] < losses["alike"]
