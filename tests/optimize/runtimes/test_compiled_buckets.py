"""Code compiled ahead of time runs in the buckets of ``cuda_graphs``, as it would on a GPU."""

from dataclasses import replace

import example_rankers
import numpy as np
import pytest
import torch

from optimize.artifact import Artifact
from optimize.branches import Branch, MeasureOptions
from optimize.branching import run_branches
from optimize.build import run_stage
from optimize.capture import capture
from optimize.devices import runtime_device
from optimize.recipe import StageUse
from optimize.runtimes import open_predictor
from optimize.runtimes.cuda_graphs import GraphPredictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from rankers.errors import UserError


@pytest.fixture(scope="module")
def program(store):
    return capture(example_rankers.tiny(), store, candidates=(1, 37))


@pytest.fixture(scope="module")
def made(program, store):
    """Compiled in half precision: what the buckets ask for is in the code."""
    options = {"sizes": "8,64", "precision": "bf16"}
    return run_stage(
        "compile_inductor", {}, run_stage("cuda_graphs", options, program, store), store
    )


def test_requests_are_padded_cut_and_scored_as_the_program_scores_them(made, program):
    predict = open_predictor(made, threads=1)
    assert isinstance(predict, GraphPredictor)
    assert predict.buckets.sizes == (8, 64)
    signature = made.manifest.signature
    for rows in (1, 8, 37, 130):
        columns = sample_requests(signature, [rows]).flat()
        expected = open_predictor(program, threads=1)(columns)
        np.testing.assert_allclose(predict(columns), expected, atol=0.02)


def test_the_precision_of_the_buckets_is_compiled_in(made, program, store):
    eager = run_stage("cuda_graphs", {"sizes": "8,64", "precision": "bf16"}, program, store)
    columns = sample_requests(made.manifest.signature, [37]).flat()
    exact, found, wanted = (
        open_predictor(each, threads=1)(columns) for each in (program, made, eager)
    )
    assert np.abs(found - exact).max() > 1e-5
    assert np.abs(found - wanted).max() < np.abs(found - exact).max()


def test_an_id_out_of_range_is_refused_before_code_reads_it(made):
    columns = sample_requests(made.manifest.signature, [9]).flat()
    columns["item"][3] = 100
    with pytest.raises(UserError, match="feature 'item' holds the ID 100"):
        open_predictor(made, threads=1)(columns)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
class TestWithoutGpu:
    def test_a_branch_for_one_is_skipped_with_why(self, program):
        uses = (StageUse("compile_inductor", make_stage("compile_inductor", {"device": "cuda"})),)
        steps = type("Steps", (), {"device": "cpu"})()
        chosen = run_branches([Branch("aoti", uses)], program, steps, MeasureOptions())
        assert chosen.branches[0].end == "skipped"
        assert "no CUDA device" in chosen.branches[0].reason

    def test_the_stage_says_it_in_a_line(self, program, tmp_path):
        with pytest.raises(UserError, match="no CUDA device"):
            make_stage("compile_inductor", {"device": "cuda"}).run(program, tmp_path)

    def test_code_for_a_gpu_is_opened_on_it_alone(self, made):
        settings = made.manifest.settings | {"device": "cuda"}
        there = Artifact(made.folder, replace(made.manifest, settings=settings))
        assert runtime_device(there.manifest, "cuda") == "cuda"
        assert runtime_device(made.manifest, "cuda") == "cpu"
        with pytest.raises(UserError, match="runs on cuda; 'cpu' was asked for"):
            open_predictor(there, device="cpu")
        with pytest.raises(UserError, match="no CUDA device"):
            open_predictor(there, device="cuda")
