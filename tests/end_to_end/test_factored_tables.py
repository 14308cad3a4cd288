"""A zoo ranker with factored tables, by a recipe: gated, then in int8, then in ONNX."""

from __future__ import annotations

import json

import numpy as np
import pytest

RECIPE = """
description = "tables of a quarter of their bytes, then in int8"

[[stages]]
use = "factor_tables"
share = 0.25
min_rows = 64
steps = 10

[[stages]]
use = "quantize_tables"
min_rows = 64

[[stages]]
use = "export_onnx"

[gates.parity]
max_abs = 0.2
mean_abs = 2e-2

[gates.quality]
auc = 0.1
gauc = 0.1
ndcg_at_10 = 0.2
logloss = 0.05
calibration_error = 0.05
"""


@pytest.mark.end_to_end
@pytest.mark.timeout(300)
def test_a_recipe_factors_then_rounds_and_gates_pass(tmp_path):
    from optimize.children import default_limits
    from optimize.pipeline import run_recipe
    from optimize.recipe import load_recipe
    from optimize.runtimes import open_predictor
    from rankers.checkpoint import load_checkpoint, save_checkpoint
    from rankers.data.source import read_log
    from rankers.zoo import train_zoo, training_options
    from rankers.zoo.catalogue import ZOO

    log = read_log(f"synthetic:{ZOO['two_tower'].log}", rows=16_000)
    ranker, options, training = train_zoo("two_tower", log, training_options("two_tower"))
    save_checkpoint(tmp_path / "two_tower", ranker, options, training.to_json())
    (tmp_path / "small.toml").write_text(RECIPE)

    run = run_recipe(
        str(tmp_path / "two_tower"),
        load_recipe(str(tmp_path / "small.toml")),
        tmp_path / "run",
        limits=default_limits(),
    )

    assert run.passed
    artifacts = {each.name: each.artifact for each in run.results}
    said = json.loads((artifacts["factor_tables"].folder / "factored-tables.json").read_text())
    changed = [each for each in said["tables"] if each["rank"]]
    assert changed
    assert len(said["fine_tuning"]) == 1
    rounded = json.loads((artifacts["quantize_tables"].folder / "tables.json").read_text())
    narrow = {x["name"]: x for x in rounded["tables"] if x["name"].endswith("low_rank")}
    assert {x["width"] for x in narrow.values()} == {"int8"}
    assert {x["dimension"] for x in narrow.values()} == {x["rank"] for x in changed}
    assert run.chosen.manifest.precision == "fp32, tables int8"
    assert run.chosen.model_bytes < 0.5 * run.results[0].artifact.model_bytes
    batch = load_checkpoint(tmp_path / "two_tower").evaluation.slice(0, 5)
    scores = [
        open_predictor(each)(each.manifest.columns_of(batch))
        for each in (run.chosen, artifacts["quantize_tables"])
    ]
    np.testing.assert_allclose(*scores, atol=1e-5)
