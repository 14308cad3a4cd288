"""Recipes: TOML in, stages and limits out, or one line that says what is wrong."""

import json
from dataclasses import replace

import pytest

from optimize.recipe import built_in_recipes, gate_limits, load_recipe
from rankers.errors import UserError

ONE_STAGE = '[[stages]]\nuse = "export_onnx"\n'


def load(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load_recipe(str(path))


@pytest.mark.parametrize("name", sorted(built_in_recipes()))
def test_every_built_in_recipe_loads_and_describes_itself(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description


def test_options_and_limits_are_taken_over(tmp_path):
    recipe = load(
        tmp_path,
        '[[stages]]\nuse = "export_onnx"\nopset = 21\n[gates.parity]\nmax_abs = 0.5\n'
        "candidates = [3]\n[gates.quality]\nauc = 0\n",
    )
    assert recipe.stages[0].stage.opset == 21
    assert recipe.parity.max_abs == 0.5
    assert recipe.parity.candidates == (3,)
    assert recipe.quality.auc == 0
    assert recipe.quality.gauc == load_recipe("cpu-fp32").quality.gauc


def test_what_changes_scores_is_kept_only_if_better_unless_a_recipe_says_so(tmp_path):
    stages = ONE_STAGE + '[[stages]]\nuse = "quantize_dynamic"\n'
    recipe = load(tmp_path, "measured_at = [32, 200]\n" + stages)
    assert [each.keep for each in recipe.stages] == ["always", "if_better"]
    assert recipe.measured_at == (32, 200)
    assert load(tmp_path, stages + 'keep = "always"\n').stages[1].keep == "always"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[stages]]\nuse = "export_onx"\n', "unknown stage 'export_onx'; did you mean 'export_on"),
        ('[[stages]]\nuse = "export_onnx"\nopsett = 3\n', "no option 'opsett'; did you mean 'ops"),
        ('[[stages]]\nuse = "export_onnx"\nopset = "x"\n', "option 'opset' is 'x'; expected int"),
        ('[[stages]]\nuse = "export_onnx"\nopset = 3\n', "opset is 3; expected 18 to 23"),
        ('[[stages]]\nuse = "optimize_onnx"\n', "reads onnx, but what comes to it is torch"),
        ("[[stages]]\nopset = 3\n", "needs use ="),
        ("", "at least one [[stages]]"),
        ("[[stages]\n", "not valid TOML"),
        (ONE_STAGE + "[gates.parity]\nmaxabs = 1\n", "no 'maxabs'; did you mean 'max_abs'"),
        (ONE_STAGE + "[gates.parity]\nmax_abs = -1\n", "max_abs is -1; expected a number"),
        (ONE_STAGE + "[gates.parity]\nmax_abs = nan\n", "max_abs is nan; expected a number"),
        (ONE_STAGE + "[gates.parity]\ncandidates = [0]\n", "expected whole numbers from 1"),
        (ONE_STAGE + "[gates.qualty]\n", "no 'qualty'; did you mean 'quality'"),
        (ONE_STAGE + "[gates.quality]\ncannot_tell = 1\n", "expected 'block' or 'pass'"),
        (ONE_STAGE + "[gates.quality.also]\nndgc_at_5 = 1\n", "did you mean 'ndcg_at_"),
        (ONE_STAGE + "[gates.quality.also]\nndcg_at_5 = -1\n", "ndcg_at_5 is -1; expected a num"),
        (ONE_STAGE + "[gates.ranking]\ntop_k = 0\n", "top_k is 0; expected a whole number"),
        (ONE_STAGE + "[gates.slices]\nalso = 'x'\n", "expected a list of slices"),
        (ONE_STAGE + "[gates.slices]\nusual = 1\n", "usual is 1; expected true or false"),
        ("colour = 3\n" + ONE_STAGE, "a recipe has no 'colour'"),
        ("base = 3\n" + ONE_STAGE, "base is 3; expected a recipe's name or path"),
        ('base = "cpu-fp23"\n', "did you mean 'cpu-fp32'"),
        ('base = "auto"\n[[branches]]\nname = "onnx"\n', "a name of its own, not 'onnx'"),
        (
            (
                '[[branches]]\nname = "a"\nstages = [{ use = "export_onnx" }]\n'
                '[measure]\nrivals = ["b"]'
            ),
            "rivals has 'b', no branch",
        ),
        ("measured_at = [0]\n" + ONE_STAGE, "measured_at is [0]; expected whole numbers from 1"),
        (ONE_STAGE + 'keep = "if_beter"\n', "keep is 'if_beter'; did you mean 'if_better'"),
        (ONE_STAGE + 'keep = "if_passed"\n', "makes onnx of torch, which the next stage reads"),
        (ONE_STAGE + 'keep = "if_better"\n', "makes onnx of torch, which the next stage reads"),
    ],
)
def test_a_mistake_is_said_in_one_line(tmp_path, text, said):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_limits_come_back_from_json_as_they_were(tmp_path):
    recipe = load(
        tmp_path,
        ONE_STAGE + "[gates.quality]\ncannot_tell = 'pass'\nalso = { ndcg_at_5 = 0.1 }\n"
        "[gates.ranking]\nkendall = 0.02\n[gates.slices]\nalso = ['price=9..']\n",
    )
    assert gate_limits(json.loads(json.dumps(recipe.gates_json()))) == recipe.gates
    assert recipe.quality.by_metric["ndcg_at_5"] == 0.1
    assert recipe.gates.ranking.overlap is None


def test_a_recipe_says_what_is_different_from_its_base(tmp_path):
    recipe = load(
        tmp_path,
        'base = "auto-fp32"\n'
        '[[branches]]\nname = "mine"\nstages = [{ use = "export_onnx" }]\n'
        "[measure]\ndeployable_only = true\n"
        "[gates.quality]\nauc = 0.5\n",
    )
    base = load_recipe("auto-fp32")
    assert (recipe.name, recipe.description) == ("mine", base.description)
    assert [each.name for each in recipe.branches] == [*(x.name for x in base.branches), "mine"]
    assert recipe.measure == replace(base.measure, deployable_only=True)
    assert recipe.gates == replace(base.gates, quality=replace(base.quality, auc=0.5))


def test_recipes_that_one_names_lie_beside_it(tmp_path):
    (tmp_path / "limits.toml").write_text("[gates.parity]\nmax_abs = 0.5\n")
    (tmp_path / "base.toml").write_text(
        '[[branches]]\nname = "a"\ngates = "limits.toml"\nstages = [{ use = "export_onnx" }]\n'
    )
    (tmp_path / "below").mkdir()
    recipe = load(tmp_path / "below", 'base = "../base.toml"\n')
    assert recipe.branches[0].gates.parity.max_abs == 0.5


def test_bases_that_go_in_a_circle_are_said(tmp_path):
    for name, base in (("one", "two"), ("two", "one")):
        (tmp_path / f"{name}.toml").write_text(f"base = '{base}.toml'\n{ONE_STAGE}")
    with pytest.raises(UserError, match=r"one\.toml: it is its own base"):
        load_recipe(str(tmp_path / "one.toml"))


def test_auto_adds_int8_and_bf16_within_the_limits_of_cpu_fast():
    auto, rounding = load_recipe("auto"), load_recipe("auto-fp32")
    assert auto.branches[: len(rounding.branches)] == rounding.branches
    assert (auto.gates, auto.measure) == (rounding.gates, rounding.measure)
    assert all(each.gates is None for each in rounding.branches)
    for each in auto.branches[len(rounding.branches) :]:
        assert each.gates == load_recipe("cpu-fast").gates
        kinds = {getattr(use.stage, "precision", use.name) for use in each.stages}
        assert {"quantize_dynamic", "quantize_static", "bf16"} & kinds


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'cpu-fp32'"):
        load_recipe("cpu-fp23")
