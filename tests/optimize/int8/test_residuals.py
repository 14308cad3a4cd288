"""Q/DQ pairs where TensorRT wants them."""

from types import SimpleNamespace

import dense_ranker
import numpy as np
import onnx
import pytest
from small_graphs import drawn, make_model, node

from optimize.artifact import Manifest, seal
from optimize.int8.layers import dense_layers
from optimize.int8.residuals import residual_adds
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.tensorrt.preflight import check_graph
from rankers.errors import UserError
from rankers.features import Feature, Signature

SIGNATURE = Signature((Feature("x", "float32", (32,), "item"),))
CALIBRATION = sample_requests(SIGNATURE, [8] * 8)
# A layer with its bias, and what goes around it.
BLOCK = [
    node("MatMul", "x w1", "product"),
    node("Add", "product bias", "biased"),
    node("Relu", "x", "around"),
    node("Add", "biased around", "sum"),
    node("MatMul", "sum w2", "last"),
    node("Reshape", "last flat", "score"),
]
WEIGHTS = {
    "w1": drawn(32, 32),
    "bias": drawn(32),
    "w2": drawn(32, 1),
    "flat": np.array([-1]),
}


@pytest.fixture
def artifact(tmp_path):
    folder = tmp_path / "fp32"
    folder.mkdir()
    inputs = {"x": (onnx.TensorProto.FLOAT, ["rows", 32])}
    onnx.save(make_model(BLOCK, WEIGHTS, inputs=inputs), folder / "model.onnx")
    return seal(folder, Manifest("block", "onnx", "model.onnx", SIGNATURE))


def quantize(artifact, folder, calibration=CALIBRATION, **options):
    folder.mkdir()
    stage = make_stage("quantize_static", {"placement": "tensorrt", **options})
    return seal(folder, stage.run(artifact, folder, calibration))


def test_a_sum_with_what_goes_around_a_layer_is_told_from_a_bias_and_from_two_layers():
    two = [*BLOCK[:2], node("MatMul", "x w1", "other"), node("Add", "biased other", "score")]
    for nodes, found in ((BLOCK, [("sum", 0)]), (two, [])):
        model = make_model(nodes, WEIGHTS)
        layers = dense_layers(model)
        assert [(x.name, x.product) for x in residual_adds(model, layers)] == found
    assert residual_adds(make_model(BLOCK, WEIGHTS), [SimpleNamespace(name="no")]) == ()


def test_layers_inputs_and_what_goes_around_are_quantized_and_no_result_of_a_layer(
    artifact, tmp_path
):
    made = quantize(artifact, tmp_path / "made")
    graph = onnx.load(made.model_path).graph
    readers = {x.input[0]: x.op_type for x in graph.node if x.op_type == "QuantizeLinear"}
    assert set(readers) == {"x", "around"}
    assert "product" not in readers
    assert "x" in next(x for x in graph.node if x.name == "around").input
    assert "biased" in next(x for x in graph.node if x.name == "sum").input
    assert check_graph(made.model_path) == ()


def test_all_is_signed_symmetric_and_biases_stay_floats(tmp_path):
    flat = dense_ranker.make_artifact(tmp_path / "fp32")
    requests = sample_requests(dense_ranker.SIGNATURE, [8] * 4)
    made = quantize(flat, tmp_path / "made", requests)
    held = {
        x.name: onnx.numpy_helper.to_array(x) for x in onnx.load(made.model_path).graph.initializer
    }
    points = [x for name, x in held.items() if "zero_point" in name]
    assert {x.dtype for x in points} == {np.dtype(np.int8)}
    assert not any(x.any() for x in points)
    assert not [name for name, x in held.items() if x.dtype == np.int32]
    assert max(np.abs(x.astype(int)).max() for x in held.values() if x.dtype == np.int8) == 127
    assert "isa" not in made.manifest.requires


def test_a_cpu_multiplies_what_pairs_rounded_as_floats(artifact, tmp_path):
    made = quantize(artifact, tmp_path / "made")
    held = {
        x.name: onnx.numpy_helper.to_array(x) for x in onnx.load(made.model_path).graph.initializer
    }

    def rounded(values, scale):
        return np.clip(np.round(values / scale), -128, 127) * scale

    x = CALIBRATION.items["x"]
    weights = held["w1_quantized"] * held["w1_scale"]
    product = rounded(x, held["x_scale"]) @ weights + WEIGHTS["bias"]
    total = product + rounded(np.maximum(x, 0), held["around_scale"])
    scores = open_predictor(made, threads=1)(made.manifest.columns_of(CALIBRATION))
    np.testing.assert_allclose(scores, (total @ WEIGHTS["w2"])[:, 0], atol=1e-5)


def test_unsigned_activations_are_refused():
    with pytest.raises(UserError, match="TensorRT takes signed ones only"):
        make_stage("quantize_static", {"placement": "tensorrt", "activations": "uint8"})
