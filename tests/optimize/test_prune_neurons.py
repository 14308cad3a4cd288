"""The stage: smaller tensors in every later format, before or after the user's part is split."""

from __future__ import annotations

import dataclasses
import json

import layered_rankers
import numpy as np
import onnx
import pytest

from optimize.build import run_stage
from optimize.capture import capture
from optimize.recipe import load_recipe
from optimize.runtimes import open_predictor
from optimize.stages import make_stage
from optimize.stages.prune_neurons import REPORT
from optimize.torch_program import load_program
from rankers.errors import UserError

OPTIONS = {"budget": 0.5, "multiple": 4, "min_width": 4, "rounds": 2}


@pytest.fixture(scope="module")
def captured_plain(store):
    return capture(layered_rankers.plain(), store, candidates=(1, 5))


@pytest.fixture(scope="module")
def pruned(captured_plain, store):
    return run_stage("prune_neurons", OPTIONS, captured_plain, store, data=captured_plain)


def scores(artifact, batch):
    return open_predictor(artifact)(artifact.manifest.columns_of(batch))


def widths(program):
    names = {name.removeprefix("rewritten."): x for name, x in program.state_dict.items()}
    return {name: tuple(x.shape) for name, x in names.items() if name.endswith("weight")}


def test_the_program_has_smaller_tensors_and_the_report_says_which(captured_plain, pruned):
    before, after = (widths(load_program(x.model_path)) for x in (captured_plain, pruned))
    said = json.loads((pruned.folder / REPORT).read_text())

    assert before["ranker.layers.0.weight"] == (32, 51)
    first, second = (x["outputs_after"] for x in said["layers"][:2])
    assert after["ranker.layers.0.weight"] == (first, 51)
    assert after["ranker.layers.2.weight"] == (second, first)
    assert after["ranker.layers.4.weight"] == (1, second)
    assert after["ranker.table.weight"] == before["ranker.table.weight"]
    assert [x["multiply_adds_before"] for x in said["layers"]] == [51 * 32, 32 * 16, 16]
    ends = [sum(x[f"multiply_adds_{end}"] for x in said["layers"]) for end in ("before", "after")]
    assert ends[1] == 51 * first + first * second + second <= 0.5 * ends[0]
    assert said["layers"][0]["bytes_after"] == 4 * 51 * first
    assert said["requests"] == 120
    (note,) = pruned.manifest.notes
    assert note.startswith("prune_neurons: ")
    assert f"multiply-adds for a candidate 2,160 → {ends[1]:,.0f}" in note


def test_it_exports_as_it_is_after_the_users_part_is_split(pruned, store):
    split = run_stage("user_once", {"when": "always"}, pruned, store)
    exported = run_stage("export_onnx", {}, split, store)
    batch = layered_rankers.requests(9, seed=4)

    assert split.manifest.layout == "user_once"
    np.testing.assert_allclose(scores(exported, batch), scores(pruned, batch), atol=1e-5)
    held = {tuple(x.dims) for x in onnx.load(exported.model_path).graph.initializer}
    assert not any(32 in shape for shape in held)


def test_it_prunes_what_user_once_has_split_to_the_same_widths(captured_plain, pruned, store):
    split = run_stage("user_once", {"when": "always"}, captured_plain, store)
    later = run_stage("prune_neurons", OPTIONS, split, store, data=captured_plain)
    batch = layered_rankers.requests(9, seed=4)

    assert later.manifest.layout == "user_once"
    said = json.loads((later.folder / REPORT).read_text())
    halves = [x for x in said["layers"] if x["outputs_before"] == 32]
    assert len(halves) == 2  # the user's columns and the items'
    assert {x["outputs_after"] for x in halves} == {halves[0]["outputs_after"]}
    difference = scores(later, batch) - scores(captured_plain, batch)
    assert difference.std() < scores(captured_plain, batch).std()


def test_calibration_requests_are_needed(store):
    ranker = dataclasses.replace(layered_rankers.ranker("Plain", seed=3), calibration=None)
    bare = capture(ranker, store, candidates=(1, 5))
    with pytest.raises(UserError, match="learns from calibration requests, and ranker 'plain' has"):
        run_stage("prune_neurons", OPTIONS, bare, store, data=bare)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": 1.0}, "budget is 1.0; expected a share above 0, below 1"),
        ({"multiple": 0}, "multiple is 0; expected 1 or more"),
        ({"learning_rate": 2.0}, "learning_rate is 2.0; expected above 0, below 1"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        make_stage("prune_neurons", options)


def test_the_recipe_prunes_before_it_splits():
    recipe = load_recipe("cpu-pruned")

    assert [x.name for x in recipe.stages][:2] == ["prune_neurons", "user_once"]
    assert recipe.stages[0].keep == "if_passed"  # a ranker that cannot do with half goes on whole
    assert recipe.quality.auc == 5e-4
