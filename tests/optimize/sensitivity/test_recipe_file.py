"""The recipe that is written does what was chosen: the same widths, the same layers, the gates."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from optimize.build import run_stage
from optimize.gates import judge
from optimize.int8.form import form_here
from optimize.recipe import load_recipe
from optimize.runtimes import open_predictor
from optimize.sensitivity.budget import parse_budget
from optimize.sensitivity.onnx_layers import layers_in
from optimize.sensitivity.recipe_file import write_recipe
from optimize.sensitivity.trials import layer_changes, table_changes
from optimize.stages import stage_options
from optimize.stages.quantize_tables import REPORT


@pytest.fixture(scope="module")
def choice(chosen):
    return chosen("score=0.03")


@pytest.fixture(scope="module")
def recipe(choice, captured_plant, subject, store, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "mixed.toml"
    write_recipe(choice, captured_plant, subject.layers, store, path)
    return load_recipe(str(path))


@pytest.fixture(scope="module")
def made(recipe, captured_plant, store):
    found = [captured_plant]
    for use in recipe.stages:
        found.append(run_stage(use.name, stage_options(use.stage), found[-1], store))
    return found


def test_its_stages_give_tables_their_widths_and_leave_the_other_layers(recipe, choice):
    stages = {use.name: use.stage for use in recipe.stages}
    assert list(stages) == [
        "quantize_tables", "user_once", "export_onnx", "quantize_dynamic", "optimize_onnx",
    ]  # fmt: skip
    assert stages["quantize_tables"].widths == choice.widths


def test_what_it_makes_has_the_widths_that_were_chosen(made, choice):
    said = json.loads((made[1].folder / REPORT).read_text())["tables"]
    assert {x["name"]: x["width"] for x in said if not x["reason"]} == choice.widths


def test_the_layers_that_were_chosen_are_in_int8_and_no_others(made, subject, choice):
    before, after = (
        {name for _, name in layers_in(onnx.load(made[place].model_path), subject.layers)}
        for place in (3, 4)
    )
    assert before == {"spoilt", "fine", "last"}
    assert before - after == set(choice.layers)


def test_it_scores_as_was_measured(made, subject, choice):
    tables = {x: choice.widths[x.name] for x in subject.tables if x.name in choice.widths}
    layers = {x: "int8" for x in subject.layers if x.name in choice.layers}
    changes = table_changes(tables) | layer_changes(layers, seven_bits=form_here().seven_bits)
    expected = subject.scorer.score(changes)
    predict, columns_of = open_predictor(made[-1]), made[-1].manifest.columns_of
    scores = np.concatenate([predict(columns_of(each)) for each in subject.requests])
    moved = np.abs(expected - subject.reference.scores).mean()
    assert made[2].manifest.layout == "flat"  # the user's part would have ranges of its own
    assert np.abs(scores - expected).mean() < moved / 20


def test_its_gates_let_what_was_chosen_pass_in_parity(made, recipe, captured_plant):
    parity, *_ = judge(made[-1], captured_plant, recipe.parity, recipe.quality)
    assert parity.passed, parity.reason
    assert recipe.parity.max_abs < 0.2  # and would not let anything pass


def test_it_is_judged_as_the_recipe_cpu_small_is(choice, recipe):
    usual = load_recipe("cpu-small").gates
    assert recipe.quality == usual.quality
    assert (recipe.gates.ranking, recipe.gates.slices) == (usual.ranking, usual.slices)
    parity = recipe.parity
    assert parity.candidates == usual.parity.candidates
    # Only what the choice moved further when it was measured has more room.
    for name, measured in (
        ("max_abs", choice.loss.largest_change),
        ("mean_abs", choice.loss.mean_change),
    ):
        most = max(getattr(usual.parity, name), 4 * measured)
        assert getattr(parity, name) == pytest.approx(most, rel=0.05)


def test_a_budget_of_a_metric_becomes_a_limit_of_the_gate(
    choice, captured_plant, subject, store, tmp_path
):
    from dataclasses import replace

    path = tmp_path / "none.toml"
    for text, limits in (
        ("ndcg_at_10=0.004", {"ndcg_at_10": 0.004, "auc": 2e-4}),
        ("mrr_at_5=0.02", {"mrr_at_5": 0.02}),
    ):
        none = replace(choice, budget=parse_budget(text), widths={}, layers=())
        write_recipe(none, captured_plant, subject.layers, store, path)
        found = load_recipe(str(path))
        assert [use.name for use in found.stages] == ["user_once", "export_onnx", "optimize_onnx"]
        assert limits.items() <= found.quality.by_metric.items()
