"""What the documents say of recipes on the zoo is what was committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.validation.zoo_recipes import RECIPES, TABLE_RECIPES, sentence, tables_row
from rankers.zoo.catalogue import ZOO

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def rankers():
    file = ROOT / "bench" / "results" / "validation" / "zoo-recipes.json"
    return json.loads(file.read_text())["rankers"]


def test_every_ranker_went_through_every_recipe(rankers):
    assert rankers.keys() == ZOO.keys()
    assert all(each.keys() == set(RECIPES) for each in rankers.values())


def test_tables_in_int8_pass_their_gates_on_every_ranker(rankers):
    assert all(each[TABLE_RECIPES["int8"]]["passed"] for each in rankers.values())


def test_the_page_on_quantization_has_these_figures(rankers):
    page = (ROOT / "docs" / "quantization.md").read_text()
    rows = [tables_row(name, each) for name, each in rankers.items()]
    assert [row for row in rows if row not in page] == []


def test_a_line_says_what_was_dropped_or_failed(rankers):
    made = rankers["dlrm"]["cpu-small"]
    assert sentence("dlrm", "cpu-small", made).startswith(
        "dlrm, cpu-small: 0.326 of the bytes, ΔAUC"
    )
    dropped = made | {"stages": {"quantize_dynamic": "slower"}}
    assert sentence("dlrm", "mine", dropped).endswith("; dropped: quantize_dynamic")
    failed = {"failed": ["quantize_tables: quality: ΔAUC -0.1"]}
    assert sentence("dlrm", "mine", failed) == "dlrm, mine: quantize_tables: quality: ΔAUC -0.1"
