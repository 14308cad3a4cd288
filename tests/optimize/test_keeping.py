"""Stages that have to pay: what is slower than its input, or ranks worse, is dropped in a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from example_rankers import EXAMPLES
from in_process import children_in_this_process, here

from optimize import pipeline, steps
from optimize.artifact import open_artifact
from optimize.children import default_limits
from optimize.gain import Gain, Speed
from optimize.gate_limits import GateLimits, ParityLimits
from optimize.recipe import load_recipe
from optimize.run import find_artifact

RECIPE = """
measured_at = [50, 200]
stages = [
  { use = "export_onnx" },
  { use = "quantize_static", ranges = "percentile" },
  { use = "quantize_dynamic" },
  { use = "optimize_onnx" },
]
[gates.parity]
max_abs = 0.2
mean_abs = 0.05
candidates = [1, 37]
[gates.quality]
auc = 0.1
gauc = 0.1
ndcg_at_10 = 0.1
logloss = 0.1
calibration_error = 0.1
"""


def stated(value, made, source, candidates):
    speeds = (Speed(each, value, 0.99 * value, 1.01 * value, 1.0, value) for each in candidates)
    return Gain(tuple(speeds), made.model_bytes, source.model_bytes)


def last_stage(artifact):
    return artifact.manifest.lineage[-1].stage


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run recipes in one folder, with the children's commands in this process."""
    folder = tmp_path_factory.mktemp("keeping")
    (folder / "mine.toml").write_text(RECIPE)
    recipe = load_recipe(str(folder / "mine.toml"))

    def run(measure, **changes):
        return pipeline.run_recipe(
            f"{EXAMPLES}:deep",
            replace(recipe, **changes),
            folder / "out",
            limits=default_limits(),
            measure_gain=measure,
        )

    with children_in_this_process() as patch:
        run.patch, run.here, run.folder = patch, here, folder / "out"
        yield run


@pytest.fixture(scope="module")
def static_is_slower(run):
    asked = []

    def measure(made, source, candidates):
        asked.append((last_stage(made), last_stage(source), candidates))
        return stated(
            0.93 if last_stage(made) == "quantize_static" else 1.8, made, source, candidates
        )

    return run(measure), asked


def test_each_is_measured_against_its_input_at_the_recipes_sizes(static_is_slower):
    assert static_is_slower[1] == [
        ("quantize_static", "export_onnx", (50, 200)),
        ("quantize_dynamic", "export_onnx", (50, 200)),
    ]


def test_a_slower_stage_is_dropped_and_the_run_goes_on_from_its_input(static_is_slower):
    found, _ = static_is_slower
    lineage = [each.stage for each in found.chosen.manifest.lineage]
    assert found.passed
    assert lineage == ["capture", "export_onnx", "quantize_dynamic", "optimize_onnx"]
    assert found.chosen.manifest.precision == "int8"


def test_the_runs_file_says_what_was_dropped_and_why(static_is_slower):
    found, _ = static_is_slower
    stages = {
        each["stage"]: each for each in json.loads((found.out / "run.json").read_text())["stages"]
    }
    dropped = stages["quantize_static"]
    assert dropped["passed"]
    assert dropped["dropped"].startswith(
        "quantize_static: 0.93 times the speed of its input at N=50, 0.93 times"
    )
    assert dropped["dropped"].endswith("; dropped")
    assert [each["verdict"] for each in dropped["gain"]["speeds"]] == ["slower", "slower"]
    assert stages["quantize_dynamic"]["dropped"] == ""
    assert stages["quantize_dynamic"]["gain"]["worth_it"]
    assert stages["export_onnx"]["gain"] is None


def test_a_stage_that_ranks_worse_is_dropped_without_measuring(run, static_is_slower):
    strict = ParityLimits(max_abs=1e-5, mean_abs=1e-6, candidates=(1, 37))
    found = run(None, gates=GateLimits(parity=strict))  # measuring would ask for a child
    reasons = {each.name: each.dropped for each in found.results if each.dropped}
    assert list(reasons) == ["quantize_static", "quantize_dynamic"]
    assert all("parity: max |Δscore|" in each for each in reasons.values())
    assert found.passed
    assert found.chosen.manifest.precision == "fp32"


def test_one_that_need_only_pass_is_kept_without_measuring(run, static_is_slower):
    recipe = load_recipe(str(run.folder.parent / "mine.toml"))
    static = replace(recipe.stages[1], keep="if_passed")
    refuse = ParityLimits(max_abs=1e-5, mean_abs=1e-6, candidates=(1, 37))
    said = []
    observer = type("Noting", (steps.Silent,), {"noticed": lambda _, text: said.append(text)})()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Silent", lambda: observer)
        kept = run(None, stages=(recipe.stages[0], static))
        dropped = run(None, stages=(recipe.stages[0], static), gates=GateLimits(parity=refuse))
    assert last_stage(kept.chosen) == "quantize_static"
    assert kept.results[-1].gain is None
    assert said[0] == "quantize_static: passed its gates; kept, its speed not measured"
    assert last_stage(dropped.chosen) == "export_onnx"
    assert dropped.results[-1].dropped == said[1]


def test_if_all_are_dropped_the_last_one_kept_is_chosen(run, static_is_slower):
    recipe = load_recipe(str(run.folder.parent / "mine.toml"))
    found = run(lambda *asked: stated(0.5, *asked), stages=recipe.stages[:3])
    assert last_stage(found.chosen) == "export_onnx"
    assert found.passed
    assert find_artifact(found.out).key == open_artifact(found.chosen.folder).key


def test_what_was_measured_once_decides_again(run, static_is_slower):
    measured = []

    def counted(arguments, **more):
        if arguments[0] != "gain":
            return run.here(arguments, **more)
        measured.append(arguments)
        assert arguments[-2:] == ["--candidates", "50,200"]
        return stated(
            1.0 + len(measured), *(open_artifact(Path(arguments[i])) for i in (1, 3)), [50]
        ).to_json()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "run_child", counted)
        first, again = run(None), run(None)
    assert len(measured) == 2
    assert [each.gain for each in first.results] == [each.gain for each in again.results]
