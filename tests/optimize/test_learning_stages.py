"""What learns from requests never sees the evaluation's, nor their labels."""

from __future__ import annotations

import dataclasses

import layered_rankers
import numpy as np
import pytest

from optimize import capture as capturing
from optimize.artifact import EVIDENCE
from optimize.build import run_stage
from optimize.capture import capture
from optimize.stages import STAGES, stage_class
from rankers.errors import UserError
from rankers.requests import join_requests

LEARNING = [name for name in STAGES if getattr(stage_class(name), "needs_data", False)]
# What stages need to have something to do; others go by their defaults.
OPTIONS = {
    "drop_fields": {"fields": 1, "requests": 20, "repeats": 1},
    "prune_neurons": {"budget": 0.8, "multiple": 4, "min_width": 4, "steps": 2},
    "quantize_aware": {"steps": 2},
    "sparsify": {"steps": 2},
}


@pytest.fixture(scope="module")
def ranker():
    ranker, calibration = layered_rankers.ranker(), layered_rankers.requests(60, seed=1)
    scores = ranker.score(calibration.flat())
    clicks = scores + np.random.default_rng(2).normal(scale=scores.std(), size=len(scores))
    # With labels that follow the scores: recalibrate fits to them.
    labelled = dataclasses.replace(calibration, labels=np.float32(clicks > scores.mean()))
    return dataclasses.replace(ranker, calibration=labelled)


@pytest.fixture(scope="module")
def captured(ranker, tmp_path_factory):
    """Return the ranker without its evaluation requests, their labels and their scores."""
    artifact = capture(ranker, tmp_path_factory.mktemp("learning"), candidates=[1])
    for name in (capturing.EVALUATION, "scores.safetensors"):
        (artifact.folder / EVIDENCE / name).unlink()
    return artifact


def test_there_are_stages_that_learn():
    assert {"quantize_static", "quantize_aware", "recalibrate"} <= set(LEARNING)
    assert set(OPTIONS) <= set(LEARNING)


@pytest.fixture(scope="module")
def sources(captured):
    return {
        "torch": captured,
        "onnx": run_stage("export_onnx", {}, captured, captured.folder.parent),
    }


@pytest.mark.parametrize("stage", LEARNING)
def test_a_stage_learns_though_the_evaluation_is_not_there(stage, sources, tmp_path):
    source, captured = sources[stage_class(stage).consumes], sources["torch"]
    made = run_stage(stage, OPTIONS.get(stage, {}), source, tmp_path, data=captured)
    assert made.manifest.lineage[-1].stage == stage
    assert any(note.startswith(stage) for note in made.manifest.notes)


def test_a_ranker_is_refused_that_would_learn_from_what_it_is_judged_on(ranker, captured):
    # Without its label, and beside many others.
    leaked = dataclasses.replace(ranker.evaluation.select([3]), labels=None)
    unlabelled = dataclasses.replace(ranker.calibration, labels=None)
    with pytest.raises(UserError, match=r"1 of 61 .* evaluation requests too: 60 .*request 3\)"):
        dataclasses.replace(ranker, calibration=join_requests([*unlabelled, *leaked]))
    # What is read with --data is what was looked at then: it is part of the artifact's seal.
    assert f"{EVIDENCE}/{capturing.CALIBRATION}" in captured.manifest.files
