"""Ranges of least squared error."""

import numpy as np
import onnx
import pytest
from small_graphs import drawn, make_model, node

from optimize.artifact import Manifest, seal
from optimize.int8.mse import mse_ranges, seen_ends
from optimize.int8.numbers import Numbers
from optimize.stages import make_stage
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.requests import RankingRequest, join_requests

SIGNATURE = Signature((Feature("x", "float32", (32,), "item"),))
LAYERS = [
    node("MatMul", "x w1", "h"),
    node("MatMul", "h w2", "last"),
    node("Reshape", "last flat", "score"),
]
WEIGHTS = {"w1": drawn(32, 32), "w2": drawn(32, 1), "flat": np.array([-1])}
WIDTH = {"x": (onnx.TensorProto.FLOAT, ["rows", 32])}


def with_an_outlier(count, *, seed=0):
    """Draw requests of 64 candidates; one value of all lies far out."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 64, 32)).astype(np.float32)
    x[0, 0, 0] = 40
    return [{"x": each} for each in x]


def evenly(count):
    return [{"x": np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32)}] * count


def measured(inputs, numbers, ends):
    """Return the mean squared error of rounding every value, without a histogram."""
    values = np.concatenate([each["x"].reshape(-1) for each in inputs]).astype(np.float64)
    return float(((numbers.rounded(values, *ends) - values) ** 2).mean())


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_rare_outliers_are_cut_and_the_measured_error_falls(kind):
    numbers, inputs = Numbers(kind), with_an_outlier(80)
    model = make_model(LAYERS, WEIGHTS, inputs=WIDTH)
    found = mse_ranges(model, ["x"], inputs, numbers)["x"]
    whole = seen_ends(model, ["x"], inputs, symmetric=numbers.symmetric)["x"]
    assert whole[1] == 40
    assert found.share < 0.9
    assert found.high == pytest.approx(found.share * 40)
    assert found.low == pytest.approx(found.share * whole[0])
    before = measured(inputs, numbers, whole)
    after = measured(inputs, numbers, (found.low, found.high))
    assert after < 0.95 * before
    assert (found.error_minmax, found.error) == pytest.approx((before, after), rel=1e-2)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_a_range_that_is_well_filled_stays(kind):
    model = make_model(LAYERS, WEIGHTS, inputs=WIDTH)
    found = mse_ranges(model, ["x"], evenly(4), Numbers(kind))["x"]
    assert found.share > 0.95


def test_symmetric_ranges_reach_equally_far_and_others_hold_zero():
    inputs = [{"x": np.full((64, 32), 3, np.float32)}]
    model = make_model(LAYERS, WEIGHTS, inputs=WIDTH)
    symmetric = mse_ranges(model, ["x"], inputs, Numbers("int8"))["x"]
    assert symmetric.low == -symmetric.high
    unsigned = mse_ranges(model, ["x"], inputs, Numbers("uint8"))["x"]
    assert unsigned.low == 0


def test_what_is_never_but_zero_has_no_range_and_what_is_infinite_is_named():
    model = make_model(LAYERS, WEIGHTS, inputs=WIDTH)
    zeros = [{"x": np.zeros((64, 32), np.float32)}]
    assert mse_ranges(model, ["x"], zeros, Numbers("int8")) == {}
    endless = [{"x": np.full((64, 32), np.inf, np.float32)}]
    with pytest.raises(UserError, match="'x' is infinite or not a number"):
        mse_ranges(model, ["x"], endless, Numbers("int8"))


def quantized(tmp_path, calibration, nodes=LAYERS, weights=WEIGHTS, **options):
    """Quantize by the stage; return the scale of the first layer's input and the manifest."""
    folder = tmp_path / "fp32"
    folder.mkdir()
    onnx.save(make_model(nodes, weights, inputs=WIDTH), folder / "model.onnx")
    artifact = seal(folder, Manifest("outliers", "onnx", "model.onnx", SIGNATURE))
    target = tmp_path / "made"
    target.mkdir()
    stage = make_stage("quantize_static", {"ranges": "mse", **options})
    made = seal(target, stage.run(artifact, target, calibration))
    graph = onnx.load(made.model_path).graph
    scales = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}
    pair = next(x for x in graph.node if x.op_type == "QuantizeLinear")
    return float(scales[pair.input[1]]), made.manifest


def requests_of(inputs):
    return join_requests([RankingRequest({}, each) for each in inputs])


@pytest.mark.parametrize("placement", ["cpu", "tensorrt"])
def test_the_stage_writes_the_range_that_was_searched(placement, tmp_path):
    inputs = with_an_outlier(8)
    scale, manifest = quantized(
        tmp_path, requests_of(inputs), placement=placement, activations="int8"
    )
    model = make_model(LAYERS, WEIGHTS, inputs=WIDTH)
    found = mse_ranges(model, ["x"], inputs, Numbers("int8"))["x"]
    assert scale == pytest.approx(found.high / 127)
    assert "mse ranges from 8 requests; 1 of 1 narrower than min-max" in manifest.notes[-1]


def test_ranges_that_were_learnt_win(tmp_path):
    cut = [node("Clip", "x least most", "cut"), node("MatMul", "cut w1", "h"), *LAYERS[1:]]
    weights = WEIGHTS | {"least": np.float32(-2), "most": np.float32(2)}
    calibration = requests_of(with_an_outlier(8))
    scale, manifest = quantized(tmp_path, calibration, cut, weights, activations="int8")
    assert scale == pytest.approx(2 / 127)
    assert "ranges of 1 inputs as they were learnt" in manifest.notes[-1]
