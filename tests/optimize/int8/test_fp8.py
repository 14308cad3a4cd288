"""Floats of 8 bits: their rounding, their scales, and the pairs that TensorRT reads."""

import dense_ranker
import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from small_graphs import drawn, make_model, node

from optimize.artifact import Manifest, seal
from optimize.build import run_stage
from optimize.int8.fp8 import fp8_codes, fp8_scales
from optimize.int8.numbers import Numbers
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.tensorrt.preflight import check_graph
from optimize.triton.config import ServingOptions
from optimize.triton.repository import deploy
from rankers.errors import UserError
from rankers.features import Feature, Signature

FP8 = {"placement": "tensorrt", "weights": "fp8"}
CALIBRATION = sample_requests(dense_ranker.SIGNATURE, [50, 1, 13, 13])
# Beyond 448, at the halves between neighbours, among subnormals, and beneath them.
EDGES = [0, -0.0, 448, 463, 464, 465, 480, -1e9, 1e9, 17, 19, 2.0**-9, 2.0**-10, 3 * 2.0**-10]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    return dense_ranker.make_artifact(tmp_path_factory.mktemp("fp32") / "artifact")


def quantize(artifact, folder, calibration=CALIBRATION, **options):
    folder.mkdir()
    stage = make_stage("quantize_static", FP8 | options)
    return seal(folder, stage.run(artifact, folder, calibration))


def scores(artifact):
    return open_predictor(artifact, threads=1)(artifact.manifest.columns_of(CALIBRATION))


def constants(artifact):
    held = onnx.load(artifact.model_path).graph.initializer
    return {each.name: onnx.numpy_helper.to_array(each) for each in held}


def by_torch(values, scale):
    """Return what torch's own type makes of values."""
    scaled = torch.from_numpy(np.array(values, np.float32)) / torch.from_numpy(np.array(scale))
    return scaled.clamp(-448, 448).to(torch.float8_e4m3fn).float().numpy() * scale


@pytest.mark.parametrize("scale", [np.float32(1), np.float32(0.037)])
def test_rounding_is_torchs_and_onnx_runtimes_to_the_last_bit(scale):
    random = np.random.default_rng(0)
    drawn_far = random.normal(size=10_000) * 10.0 ** random.uniform(-5, 4, 10_000)
    x = np.concatenate([drawn_far, EDGES]).astype(np.float32)
    expected = by_torch(x, scale)
    assert np.abs(expected).max() == 448 * scale
    np.testing.assert_array_equal(fp8_codes(x, scale).astype(np.float32) * scale, expected)
    pair = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "score"),
    ]
    weights = {"scale": scale, "zero": np.zeros((), ml_dtypes.float8_e4m3fn)}
    model = make_model(pair, weights, inputs={"x": (onnx.TensorProto.FLOAT, ["rows"])})
    onnx.checker.check_model(model, full_check=True)
    session = onnx_session(model)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)


def onnx_session(model):
    import onnxruntime

    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def test_scales_put_the_largest_on_448_in_numbers_that_float16_holds():
    largest = np.array([448, 3.7, 0.1, 1e-3, 2.0**-14, 1e-6, 0, 1e9])
    scales = fp8_scales(largest)
    np.testing.assert_allclose(scales[:3], largest[:3] / 448, rtol=2**-11)
    # A float needs no scale of its own size: these would have lost digits in float16.
    np.testing.assert_array_equal(scales[3:5], 2.0**-14)
    np.testing.assert_allclose(scales[5], 1e-6 / 448, rtol=1e-6)
    assert scales[6] == 1
    assert scales[7] == pytest.approx(1e9 / 448)
    held = scales[:5]
    np.testing.assert_array_equal(held.astype(np.float16).astype(np.float32), held)


def test_numbers_round_as_the_pairs_do():
    x = np.random.default_rng(0).normal(size=1000)
    expected = by_torch(x, fp8_scales(2.5))
    np.testing.assert_allclose(Numbers("fp8").rounded(x, -2.5, 2.5), expected, rtol=1e-6)


def test_pairs_have_tensorrts_form(fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made")
    onnx.checker.check_model(str(made.model_path), full_check=True)
    graph = onnx.load(made.model_path).graph
    held, before = constants(made), constants(fp32)
    fp8 = np.dtype(ml_dtypes.float8_e4m3fn)
    pairs = [x for x in graph.node if x.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert [x.op_type for x in pairs].count("QuantizeLinear") == 2  # activations alone
    for each in pairs:
        scale, zero = (held[name] for name in each.input[1:])
        assert zero.dtype == fp8
        assert not zero.astype(np.float32).any()
        assert scale.shape == zero.shape == ((len(scale),) if each.input[0] in held else ())
    layers = {each.name: each for each in graph.node}
    for name, weight, outputs in (("first", "w1", 0), ("second", "w2", 1)):
        back = next(x for x in graph.node if layers[name].input[1] in x.output)
        assert [each.i for each in back.attribute if each.name == "axis"] == [outputs]
        codes, scale = held[back.input[0]], held[back.input[1]]
        assert codes.dtype == fp8
        largest = np.abs(before[weight]).max(axis=1 - outputs)
        np.testing.assert_allclose(scale, largest / 448, rtol=2**-11)
        assert weight not in held
    assert check_graph(made.model_path) == ()
    assert made.model_bytes < fp32.model_bytes


def test_onnx_runtime_scores_with_what_torchs_type_rounds(fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made")
    held, before = constants(made), constants(fp32)
    columns = made.manifest.columns_of(CALIBRATION)

    def layer(x, name, activation, outputs):
        largest = np.abs(before[name]).max(axis=1 - outputs, keepdims=True)
        return by_torch(x, held[f"{activation}_scale"]), by_torch(before[name], fp8_scales(largest))

    x = np.hstack([before["items"][columns["item_id"]], columns["context"], columns["price"]])
    x, w1 = layer(x, "w1", "x", 0)
    a1, w2 = layer(np.maximum(x @ w1.T + before["b1"], 0), "w2", "a1", 1)
    h2 = a1 @ w2
    a2 = np.maximum(h2, 0)
    logits = (a2 @ before["w3"])[:, 0] + 0.01 * (a2 * h2).sum(axis=1)
    np.testing.assert_allclose(scores(made), 1 / (1 + np.exp(-logits)), atol=2e-3)
    assert np.abs(scores(made) - scores(fp32)).max() > 1e-3


def test_what_lies_beyond_calibration_is_cut_and_not_infinite(fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made")
    columns = dict(made.manifest.columns_of(CALIBRATION))
    columns["price"] = columns["price"] * 1e6
    found = open_predictor(made, threads=1)(columns)
    assert np.isfinite(found).all()
    columns["price"] = np.sign(columns["price"]) * constants(made)["x_scale"] * np.float32(448)
    np.testing.assert_array_equal(open_predictor(made, threads=1)(columns), found)


def test_what_goes_around_a_layer_is_rounded_and_others_read_the_value_itself(tmp_path):
    block = [
        node("MatMul", "x w1", "product"),
        node("Relu", "x", "around"),
        node("Add", "around product", "sum"),
        node("MatMul", "sum w2", "last"),
        node("Reshape", "last flat", "score"),
    ]
    weights = {"w1": drawn(32, 32), "w2": drawn(32, 1), "flat": np.array([-1])}
    signature = Signature((Feature("x", "float32", (32,), "item"),))
    folder = tmp_path / "fp32"
    folder.mkdir()
    inputs = {"x": (onnx.TensorProto.FLOAT, ["rows", 32])}
    onnx.save(make_model(block, weights, inputs=inputs), folder / "model.onnx")
    artifact = seal(folder, Manifest("block", "onnx", "model.onnx", signature))
    made = quantize(artifact, tmp_path / "made", sample_requests(signature, [8] * 4))
    nodes = {x.name: [*x.input] for x in onnx.load(made.model_path).graph.node}
    assert nodes["around"] == ["x"]
    assert nodes["sum"] == ["around_dequantized", "product"]
    assert nodes["product"] == ["x_dequantized", "w1_dequantized"]
    assert check_graph(made.model_path) == ()


@pytest.mark.parametrize(
    "options", [{"ranges": "mse"}, {"correct_bias": True}, {"smooth": 0.5, "keep_last": False}]
)
def test_it_goes_with_what_improves_int8(options, fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made", **options)
    # Three bits of mantissa: an untrained ranker of steep scores is moved further than by int8.
    assert 0 < np.abs(scores(made) - scores(fp32)).max() < 0.15
    assert check_graph(made.model_path) == ()


def test_the_manifest_says_what_it_is_and_which_gpu_multiplies_it(fp32, tmp_path):
    manifest = quantize(fp32, tmp_path / "made").manifest
    assert manifest.precision == "fp8"
    assert manifest.requires["compute_capability"] == "8.9"
    assert "to fp8, activations and weights E4M3" in manifest.notes[-1]
    assert "minmax ranges from 4 requests" in manifest.notes[-1]


def test_fp16_around_it_keeps_every_code(fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made")
    half = run_stage("half_precision", {"ranges": "weights"}, made, tmp_path / "store")
    assert half.manifest.precision == "fp8 fp16"
    assert half.manifest.requires["compute_capability"] == "8.9"
    assert check_graph(half.model_path) == ()
    held = constants(half)
    assert {x.dtype for name, x in held.items() if "scale" in name} == {np.dtype(np.float16)}
    # Sums are rounded to fp16 between layers, so that a value may fall to its other neighbour.
    assert 0 < np.abs(scores(half) - scores(made)).max() < 0.03
    exact = {name.removesuffix("_fp16"): x for name, x in held.items() if "scale" in name}
    for name, values in constants(made).items():
        if "scale" in name:
            np.testing.assert_array_equal(exact[name].astype(np.float32), values)


def test_bf16_goes_around_it_too(fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made")
    half = run_stage("half_precision", {"type": "bf16"}, made, tmp_path / "store")
    assert half.manifest.precision == "fp8 bf16"
    assert check_graph(half.model_path) == ()
    assert 0 < np.abs(scores(half) - scores(made)).max() < 0.15


def test_a_graph_of_an_older_operator_set_is_told_what_to_do(fp32, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    model = onnx.load(fp32.model_path)
    model.opset_import[0].version = 18
    onnx.save(model, folder / "model.onnx")
    old = seal(folder, fp32.manifest)
    with pytest.raises(UserError, match="operator set 18, and fp8 needs 19: export_onnx"):
        quantize(old, tmp_path / "made")


def test_a_cut_that_was_learnt_for_one_side_stays_and_an_even_one_goes(tmp_path):
    signature = Signature((Feature("x", "float32", (32,), "item"),))
    layers = [
        node("Clip", "x least most", "cut"),
        node("MatMul", "cut w1", "h"),
        node("Clip", "h little much", "even"),
        node("MatMul", "even w2", "h2"),
        node("MatMul", "h2 w3", "last"),
        node("Reshape", "last flat", "score"),
    ]
    weights = {"w1": drawn(32, 32), "w2": drawn(32, 32), "w3": drawn(32, 1)}
    limits = {"least": 0, "most": 1.5, "little": -0.5, "much": 0.5}
    held = weights | {name: np.float32(x) for name, x in limits.items()}
    folder = tmp_path / "fp32"
    folder.mkdir()
    inputs = {"x": (onnx.TensorProto.FLOAT, ["rows", 32])}
    onnx.save(make_model(layers, held | {"flat": np.array([-1])}, inputs=inputs), folder / "m.onnx")
    artifact = seal(folder, Manifest("cuts", "onnx", "m.onnx", signature))
    calibration = sample_requests(signature, [8] * 4)
    made = quantize(artifact, tmp_path / "made", calibration)
    assert "ranges of 2 inputs as they were learnt" in made.manifest.notes[-1]
    kinds = {x.name: x.op_type for x in onnx.load(made.model_path).graph.node}
    assert ("cut" in kinds, "even" in kinds) == (True, False)

    def matrix(name):
        largest = np.abs(weights[name]).max(axis=0)
        return by_torch(weights[name], fp8_scales(largest))

    x = calibration.items["x"]
    h = by_torch(np.clip(x, 0, 1.5), fp8_scales(1.5)) @ matrix("w1")
    h2 = by_torch(h, fp8_scales(0.5)) @ matrix("w2")
    found = open_predictor(made, threads=1)(made.manifest.columns_of(calibration))
    np.testing.assert_allclose(found, (h2 @ weights["w3"])[:, 0], atol=0.02)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("export_openvino", "is in fp8, for a GPU: quantize_static without"),
        ("optimize_onnx", "put it before quantize_static"),
    ],
)
def test_stages_for_cpus_refuse_it(stage, said, fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made")
    with pytest.raises(UserError, match=said):
        run_stage(stage, {}, made, tmp_path / "store")


def test_session_options_keep_that_its_pairs_are_left(fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made")
    opened = run_stage("onnx_session", {"threads": 1}, made, tmp_path / "store")
    np.testing.assert_array_equal(scores(opened), scores(made))


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
def test_servers_by_onnx_runtime_refuse_it(backend, fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made")
    options = ServingOptions(backend=backend)
    with pytest.raises(UserError, match="drops a Relu before it"):
        deploy(made, tmp_path / "models", "dense", options=options, ungated=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"placement": "cpu"}, "weights is 'fp8', for GPUs alone"),
        ({"activations": "int8"}, "activations is 'int8'; they are fp8"),
        ({"ranges": "entropy"}, "ranges is 'entropy'; expected 'minmax' or 'mse'"),
    ],
)
def test_options_that_do_not_go_with_it_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        make_stage("quantize_static", FP8 | options)
