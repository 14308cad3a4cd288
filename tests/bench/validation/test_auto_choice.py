"""Whether ``auto`` chose right: what is measured again, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.environment import environment
from bench.validation.auto_choice import (
    AUTO,
    FLAT,
    KIND,
    flat_branches,
    main,
    measure_choice,
)
from bench.validation.auto_summary import EAGER, describe, faster_than_kept, row, summarize
from optimize.branching import BranchResult, Chosen
from optimize.recipe import load_recipe
from optimize.run import Run
from rankers.zoo.catalogue import ZOO

ROOT = Path(__file__).parents[3]


def ratio(target, value, *, quantile=0.5, baseline=AUTO, spread=0.01):
    ends = value - spread, value + spread
    verdict = "faster" if ends[1] < 1 else "slower" if ends[0] > 1 else "cannot tell"
    said = {"target": target, "baseline": baseline, "quantile": quantile, "value": value}
    return said | {"low": ends[0], "high": ends[1], "verdict": verdict}


def of(*ratios):
    return {"ratios": {AUTO: [*ratios], FLAT: [each | {"baseline": FLAT} for each in ratios]}}


def test_flat_branches_are_those_that_repeat_the_user():
    recipe = load_recipe("auto")
    flat = flat_branches(recipe)
    assert [each.name for each in flat.branches] == [
        "onnx",
        "openvino",
        "inductor",
        "torch.compile",
        "cuda graphs",
        "onnx on the gpu",
        "onnx with tensorrt",
        "cuda graphs, fused lookups",
        "onnx, dynamic int8",
        "onnx, static int8",
        "inductor, bf16",
    ]
    assert flat.measure == recipe.measure
    assert flat.gates == recipe.gates


def test_a_choice_is_measured_against_every_branch_and_eager_torch(artifact, ranker_file, tmp_path):
    branches = (
        BranchResult("onnx", "kept", "", artifact),
        BranchResult("inductor", "failed", "no compiler"),
    )
    chosen = Chosen(branches, artifact, artifact, None, "")
    run = Run(tmp_path, "auto", (), artifact, passed=True, branches=chosen)
    ranker = f"{ranker_file}:ranker"
    found = measure_choice(run, run, ranker, candidates=5, openings=1, seconds=0.1)

    targets = found["measured"]["targets"]
    assert set(targets) == {AUTO, FLAT, "onnx", EAGER}
    assert found["kept"] == {AUTO: "onnx", FLAT: "onnx"}
    assert found["branches"]["inductor"]["reason"] == "no compiler"
    assert all(each["requests"] >= 20 and each["p50_ms"] > 0 for each in targets.values())
    for kept in (AUTO, FLAT):
        compared = {each["target"] for each in found["ratios"][kept]}
        assert compared == set(targets) - {kept}
    assert "of 1 rankers" in summarize({"deepfm": found})["said"][-1]
    assert describe("deepfm", found).startswith("deepfm: kept onnx, p50 ")


def test_a_branch_beats_what_was_kept_beyond_doubt_and_by_5_percent():
    assert faster_than_kept(of(ratio("onnx", 0.9)))
    assert not faster_than_kept(of(ratio("onnx", 0.97)))  # beyond doubt, but by too little
    assert not faster_than_kept(of(ratio("onnx", 0.9, spread=0.2)))
    slower_at_p99 = ratio("onnx", 1.2, quantile=0.99)
    assert not faster_than_kept(of(ratio("onnx", 0.9), slower_at_p99))
    # Neither may be kept.
    assert not faster_than_kept(of(ratio(EAGER, 0.5), ratio("torch.compile", 0.5)))


def test_speeds_over_the_zoo_are_geometric_means():
    summary = summarize({"dlrm": of(ratio(EAGER, 2.0)), "din": of(ratio(EAGER, 8.0))})
    mean = summary["speeds"][f"{FLAT} over {EAGER}"]
    assert mean["geometric_mean"] == pytest.approx(4)
    assert (mean["rankers"], mean["asked_of_flat"]) == (2, 3.0)
    assert summary["faster_than_kept"] == {}


def test_a_ranker_that_is_measured_already_is_not_measured_again(tmp_path):
    out = tmp_path / "auto.json"
    arguments = ["--ranker", "dlrm", "--work", str(tmp_path / "work"), "--out", str(out)]
    settings = "--recipe auto --candidates 200 --openings 3"
    result = {
        "kind": KIND,
        "command": f"python -m bench.validation.auto_choice --work build/zoo {settings}",
        "environment": environment().to_json(),
        "rankers": {"dlrm": of(ratio(EAGER, 2.0))},
    }
    out.write_text(json.dumps(result))
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "2.00 times as fast as torch eager" in done.output
    assert not (tmp_path / "work").exists()

    out.write_text(json.dumps(result | {"command": "another"}))
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "another command" in refused.output


@pytest.fixture(scope="module", params=["auto-choice.json", "auto-choice-avx2.json"])
def committed(request):
    return json.loads((ROOT / "bench/results/validation" / request.param).read_text())


def test_every_ranker_of_the_zoo_was_measured_on_one_machine_at_least():
    found = json.loads((ROOT / "bench/results/validation/auto-choice.json").read_text())
    assert found["rankers"].keys() == ZOO.keys()


def test_nothing_disturbed_what_was_measured(committed):
    for one in committed["rankers"].values():
        assert one["measured"]["disturbed"] == []


def test_nothing_is_faster_than_what_auto_kept(committed):
    assert {x: faster_than_kept(each) for x, each in committed["rankers"].items()} == {
        name: [] for name in committed["rankers"]
    }


def test_the_page_on_runtimes_has_these_figures(committed):
    page = (ROOT / "docs" / "runtimes.md").read_text()
    rows = [row(name, each) for name, each in committed["rankers"].items()]
    means = summarize(committed["rankers"])["speeds"]
    rows += [f"{each['geometric_mean']:.2f}" for each in means.values()]
    assert [each for each in rows if each not in page] == []
