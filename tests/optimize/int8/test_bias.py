"""Bias correction: the mean of what rounding adds goes."""

from __future__ import annotations

import dense_ranker
import numpy as np
import onnx
import pytest

from optimize.artifact import seal
from optimize.int8.calibration import calibration_inputs
from optimize.int8.observing import observed
from optimize.samples import sample_requests
from optimize.stages import make_stage

CALIBRATION = sample_requests(dense_ranker.SIGNATURE, [30] * 8)


def quantized(artifact, folder, **options):
    folder.mkdir()
    manifest = make_stage("quantize_static", options).run(artifact, folder, CALIBRATION)
    return seal(folder, manifest)


def outputs_of(artifact):
    """Return each layer's mean output, by name, on the calibration requests."""
    inputs = calibration_inputs(
        artifact.manifest, CALIBRATION, inputs=("item_id", "context", "price"), limit=8
    )
    rows = [*observed(onnx.load(artifact.model_path), ("h1", "h2"), inputs)]
    return {name: np.mean([x[name].mean(axis=0) for x in rows], axis=0) for name in ("h1", "h2")}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return dense_ranker.make_artifact(tmp_path_factory.mktemp("dense") / "artifact")


def test_the_mean_error_of_every_layer_falls_and_is_said(original, tmp_path):
    # int8 in 50 % of what was seen rounds and cuts enough to have a mean.
    coarse = {"ranges": "percentile", "percentile": 90.0}
    plain = quantized(original, tmp_path / "plain", **coarse)
    mended = quantized(original, tmp_path / "mended", **coarse, correct_bias=True)
    exact = outputs_of(original)
    for name in ("h1", "h2"):
        before = np.abs(outputs_of(plain)[name] - exact[name]).mean()
        after = np.abs(outputs_of(mended)[name] - exact[name]).mean()
        assert after < 0.5 * before
    assert mended.manifest.notes[-1].endswith("; biases of 2 layers corrected")


def test_a_layer_with_a_bias_keeps_its_nodes_and_one_without_gets_an_add(original, tmp_path):
    plain = quantized(original, tmp_path / "plain")
    mended = quantized(original, tmp_path / "mended", correct_bias=True)
    kinds = [
        [node.op_type for node in onnx.load(each.model_path).graph.node] for each in (plain, mended)
    ]
    assert kinds[1].count("Add") == kinds[0].count("Add") + 1
    assert len(kinds[1]) == len(kinds[0]) + 1
