"""Stage ``half_precision``: smaller, as a GPU rounds, and what float16 does not hold is named."""

import dense_ranker
import numpy as np
import onnx
import pytest

from optimize.artifact import seal
from optimize.build import run_stage
from optimize.gpu_graphs import precision_in
from optimize.recipe import load_recipe
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage, needs_data
from optimize.tensorrt.preflight import check_graph
from optimize.triton.config import ServingOptions
from optimize.triton.repository import deploy
from rankers.errors import UserError

CALIBRATION = sample_requests(dense_ranker.SIGNATURE, [3, 40, 17, 9, 100, 1])
REQUESTS = sample_requests(dense_ranker.SIGNATURE, [50, 1])


def half(artifact, folder, **options):
    made = make_stage("half_precision", options)
    folder.mkdir()
    given = (CALIBRATION,) if needs_data(made) else ()
    return seal(folder, made.run(artifact, folder, *given))


def scores(artifact):
    return open_predictor(artifact, threads=1)(artifact.manifest.columns_of(REQUESTS))


@pytest.mark.parametrize(("kind", "error"), [("fp16", 2e-3), ("bf16", 2e-2)])
@pytest.mark.parametrize("layout", ["flat", "user_once"])
def test_scores_stay_close_and_inputs_and_score_keep_their_types(kind, error, layout, tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32", layout=layout)
    made = half(artifact, tmp_path / "made", type=kind)
    assert (made.manifest.precision, made.manifest.layout) == (kind, layout)
    assert 0 < np.abs(scores(made) - scores(artifact)).max() < error
    before, after = (onnx.load(each.model_path).graph for each in (artifact, made))
    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)
    assert made.model_bytes < 0.6 * artifact.model_bytes


def test_weights_beside_the_graph_become_half_too(tmp_path):
    beside = dense_ranker.make_artifact(tmp_path / "beside", weights_beside=True)
    within = dense_ranker.make_artifact(tmp_path / "within")
    made = half(beside, tmp_path / "made")
    np.testing.assert_array_equal(scores(made), scores(half(within, tmp_path / "too")))


def test_an_activation_beyond_float16_is_named_and_stays_float32(tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32")
    model = onnx.load(artifact.model_path)
    for each in model.graph.initializer:
        if each.name in {"w2", "w3"}:  # the layer between them reaches far beyond 65504
            values = onnx.numpy_helper.to_array(each) * (1e6 if each.name == "w2" else 1e-6)
            each.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), each.name))
    far = tmp_path / "far"
    far.mkdir()
    onnx.save(model, far / "model.onnx")
    reaching = seal(far, artifact.manifest)
    made = half(reaching, tmp_path / "made")
    assert "second (w2 reaches 4.7e+05)" in made.manifest.notes[-1]
    assert np.isfinite(scores(made)).all()
    blind = half(reaching, tmp_path / "blind", ranges="weights")
    assert "second (w2 reaches" in blind.manifest.notes[-1]


def test_a_ranker_without_calibration_is_told_and_bf16_needs_none(tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32")
    with pytest.raises(UserError, match="learns from calibration requests"):
        run_stage("half_precision", {}, artifact, tmp_path / "store")
    made = run_stage("half_precision", {"type": "bf16"}, artifact, tmp_path / "store")
    assert "bf16 has the range of float32" in made.manifest.notes[-1]


def test_int8_by_tensorrts_rules_and_half_go_together(tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32")
    static = make_stage("quantize_static", {"placement": "tensorrt"})
    (tmp_path / "int8").mkdir()
    int8 = seal(tmp_path / "int8", static.run(artifact, tmp_path / "int8", CALIBRATION))
    made = half(int8, tmp_path / "made")
    assert made.manifest.precision == "int8 fp16"
    assert np.abs(scores(made) - scores(artifact)).max() < 0.05
    held = {x.data_type for x in onnx.load(made.model_path).graph.initializer if "scale" in x.name}
    assert held == {onnx.TensorProto.FLOAT16}


def test_session_options_keep_what_the_graph_needs_of_a_cpu(tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32")
    made = half(artifact, tmp_path / "made", type="bf16")
    opened = run_stage("onnx_session", {"threads": 1}, made, tmp_path / "store")
    np.testing.assert_array_equal(scores(opened), scores(made))


@pytest.mark.parametrize("recipe", ["gpu-fp16", "gpu-int8", "gpu-fp8"])
def test_what_the_recipes_make_of_an_exported_graph_is_what_tensorrt_takes(recipe, tmp_path):
    made = source = dense_ranker.make_artifact(tmp_path / "fp32", layout="user_once")
    for use in load_recipe(recipe).stages[2:]:
        (tmp_path / use.name).mkdir()
        given = (CALIBRATION,) if needs_data(use.stage) else ()
        made = seal(tmp_path / use.name, use.stage.run(made, tmp_path / use.name, *given))
    assert check_graph(made.model_path) == ()
    kinds = [each.op_type for each in onnx.load(made.model_path).graph.node]
    assert kinds.count("QuantizeLinear") == (0 if recipe == "gpu-fp16" else 2)
    moved = 0.15 if recipe == "gpu-fp8" else 0.05
    assert 0 < np.abs(scores(made) - scores(source)).max() < moved


@pytest.mark.parametrize("layout", ["flat", "user_once"])
def test_it_is_deployed_for_tritons_own_backend_in_its_types(layout, tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32", layout=layout)
    made = half(artifact, tmp_path / "made")
    options = ServingOptions(backend="onnxruntime")
    deployed = deploy(made, tmp_path / "models", "dense", options=options, ungated=True)
    weights = onnx.load(deployed.folder / "model.onnx").graph.initializer
    kinds = {x.data_type for x in weights if len(x.dims) == 2 and x.dims[0] > 1}
    assert onnx.TensorProto.FLOAT16 in kinds


def test_openvino_is_for_cpus_and_refuses_it(tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32")
    made = half(artifact, tmp_path / "made", type="bf16")
    with pytest.raises(UserError, match="is in bf16, for a GPU: leave out half_precision"):
        run_stage("export_openvino", {}, made, tmp_path / "store")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fp32", "fp16"),
        ("int8", "int8 fp16"),
        ("fp32, tables int8", "fp16, tables int8"),
        ("int8, weights int4", "int8 fp16, weights int4"),
    ],
)
def test_precisions_name_what_products_are_in_first(before, after):
    assert precision_in(before, "fp16") == after


@pytest.mark.parametrize("options", [{"requests": 0}, {"headroom": 0.5}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UserError, match=rf"{next(iter(options))} is"):
        make_stage("half_precision", options)
