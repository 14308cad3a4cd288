"""A ranker with factored tables, by a recipe: gated, then in int8, then in ONNX."""

from __future__ import annotations

import json

import numpy as np
import squares_ranker
from in_process import children_in_this_process

from optimize.children import default_limits
from optimize.pipeline import run_recipe
from optimize.recipe import load_recipe
from optimize.runtimes import open_predictor

RECIPE = """
description = "a table of half of its bytes, then in int8"

[[stages]]
use = "factor_tables"
tables = "table"
share = 0.5
steps = 30
learning_rate = 3e-3

[[stages]]
use = "quantize_tables"

[[stages]]
use = "export_onnx"

[gates.parity]
max_abs = 5.0
mean_abs = 0.5

[gates.quality]
auc = 0.2
gauc = 0.3
ndcg_at_10 = 0.3
logloss = 1.0
calibration_error = 0.3
"""


def test_a_recipe_factors_then_rounds_and_gates_pass(tmp_path):
    (tmp_path / "small.toml").write_text(RECIPE)
    with children_in_this_process():
        run = run_recipe(
            f"{squares_ranker.FILE}:squares",
            load_recipe(str(tmp_path / "small.toml")),
            tmp_path / "run",
            limits=default_limits(),
        )

    failed = [x for each in run.results for x in each.artifact.manifest.verdicts if not x.passed]
    assert run.passed, failed
    artifacts = {each.name: each.artifact for each in run.results}
    said = json.loads((artifacts["factor_tables"].folder / "factored-tables.json").read_text())
    ranks = sorted(x["rank"] for x in said["tables"] if x["rank"])
    assert ranks
    (tuned,) = said["fine_tuning"]
    assert tuned["loss_after"] < tuned["loss_before"]
    rounded = json.loads((artifacts["quantize_tables"].folder / "tables.json").read_text())
    narrow = [x for x in rounded["tables"] if x["name"].endswith("low_rank")]
    assert sorted(x["dimension"] for x in narrow) == ranks
    assert {x["width"] for x in narrow} <= {"int8", "fp16"}  # of one column: fp16
    assert "tables" in run.chosen.manifest.precision
    batch = squares_ranker.squares().evaluation
    scores = [
        open_predictor(each)(each.manifest.columns_of(batch))
        for each in (run.chosen, artifacts["quantize_tables"])
    ]
    np.testing.assert_allclose(*scores, atol=1e-5)
