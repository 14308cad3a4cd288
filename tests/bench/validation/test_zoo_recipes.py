"""What the documents say of recipes on the zoo is what was committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.environment import environment
from bench.validation.zoo_recipes import (
    GPU_RECIPES,
    KIND,
    PRUNED_RECIPES,
    RECIPES,
    TABLE_RECIPES,
    main,
    sentence,
    tables_row,
)
from rankers.zoo.catalogue import ZOO

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "bench" / "results" / "validation"
COMMITTED = {
    "zoo-recipes.json": RECIPES,
    "zoo-recipes-pruned.json": PRUNED_RECIPES,
    "zoo-recipes-gpu.json": GPU_RECIPES,
}


@pytest.fixture(scope="module")
def rankers():
    return json.loads((RESULTS / "zoo-recipes.json").read_text())["rankers"]


@pytest.mark.parametrize("name", COMMITTED)
def test_every_ranker_went_through_every_recipe(name):
    rankers = json.loads((RESULTS / name).read_text())["rankers"]
    assert rankers.keys() == ZOO.keys()
    assert all(each.keys() == set(COMMITTED[name]) for each in rankers.values())


def test_tables_in_int8_pass_their_gates_on_every_ranker(rankers):
    assert all(each[TABLE_RECIPES["int8"]]["passed"] for each in rankers.values())


def test_half_precision_for_gpus_passes_on_every_ranker():
    found = json.loads((RESULTS / "zoo-recipes-gpu.json").read_text())["rankers"]
    for name, each in found.items():
        assert each["gpu-fp16"]["passed"], name
        assert each["gpu-fp16"]["stages"]["half_precision"] == "kept"


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


def test_a_run_that_was_cut_goes_on_from_its_file(tmp_path, rankers):
    out, work = tmp_path / "gpu.json", tmp_path / "work"
    chosen = [option for recipe in GPU_RECIPES for option in ("--recipe", recipe)]
    arguments = ["--ranker", "dlrm", *chosen, "--work", str(work), "--out", str(out), "--json"]
    done = dict.fromkeys(GPU_RECIPES, rankers["dlrm"]["cpu-small"])
    earlier = {
        "kind": KIND,
        "schema": 1,
        "command": "python -m bench.validation.zoo_recipes --work build/zoo --recipe gpu-fp16 "
        "--recipe gpu-int8 --recipe gpu-fp8",
        "environment": environment().to_json(),
        "rankers": {"dlrm": done},
    }
    out.write_text(json.dumps(earlier))
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["rankers"] == {"dlrm": done}
    assert "dlrm, gpu-int8: " in ran.stderr
    assert not work.exists()
