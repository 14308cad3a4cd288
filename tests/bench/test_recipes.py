"""Recipes as targets: ``bench compare RECIPE RECIPE --ranker RANKER``."""

from __future__ import annotations

import json

import history_rankers
import pytest
from click.testing import CliRunner
from in_process import children_in_this_process

from bench.cli import main
from optimize.samples import sample_requests
from rankers.requests import save_requests

RANKER = f"{history_rankers.FILE}:bags"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # runs are kept in build/ of where one is
    return lambda *arguments: CliRunner().invoke(main, [str(each) for each in arguments])


def test_each_recipe_is_run_on_the_ranker_and_what_it_makes_is_measured(bench, tmp_path):
    with children_in_this_process():
        done = bench(
            "compare", "cpu-fp32-flat", "cpu-fp32", "--ranker", RANKER, "--count", 60,
            "--rounds", 2, "--warmup", 1, "--threads", 1, "--json",
        )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    targets = [each["target"] for each in found["measurements"]]
    assert [each["layout"] for each in targets] == ["flat", "user_once"]
    assert [each["name"] for each in targets] == [
        "bags onnx fp32", "bags onnx fp32 user-once",
    ]  # fmt: skip
    assert len(list((tmp_path / "build" / "recipes").glob("*/run.json"))) == 2


def test_two_recipes_that_make_the_same_are_measured_under_names_of_their_own(
    bench, tiny_artifact, tmp_path, monkeypatch
):
    """As where the flat program is kept. What recipes make is another test's."""
    requests = tmp_path / "requests.safetensors"
    batch = sample_requests(tiny_artifact.manifest.signature, [3] * 4)
    batch.items["price"][:] = 1  # below 0 it has no score
    save_requests(batch, requests)
    made = [str(tiny_artifact.folder)] * 3
    monkeypatch.setattr("bench.recipes.run_recipes", lambda *_: (made, requests))
    done = bench(
        "crossover", "cpu-fp32-flat", "cpu-fp32", "other/mine.toml", "--ranker", RANKER,
        "--at", 3, "--count", 60, "--warmup", 1, "--threads", 1, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (cell,) = json.loads(done.stdout)["cells"]
    assert [each["target"]["name"] for each in cell["measurements"]] == [
        "tiny onnx fp32", "tiny onnx fp32 (cpu-fp32)", "tiny onnx fp32 (mine)",
    ]  # fmt: skip


def test_an_unknown_recipe_is_one_line_before_anything_is_run(bench, tmp_path):
    done = bench("compare", "cpu-fp32", "cpu-fp23", "--ranker", RANKER)
    assert done.exit_code == 2
    assert "no recipe 'cpu-fp23'" in done.stderr
    assert not (tmp_path / "build").exists()
