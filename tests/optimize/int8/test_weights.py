"""Weights of dense layers in few bits, multiplied as floats."""

import dense_ranker
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from optimize.artifact import seal
from optimize.int8.weights import channel_codes
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from rankers.errors import UserError

REQUESTS = sample_requests(dense_ranker.SIGNATURE, [50, 1])


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    return dense_ranker.make_artifact(tmp_path_factory.mktemp("fp32") / "artifact")


def quantize(artifact, folder, **options):
    folder.mkdir()
    return seal(folder, make_stage("quantize_weights", options).run(artifact, folder))


def scores(artifact):
    return open_predictor(artifact, threads=1)(artifact.manifest.columns_of(REQUESTS))


def test_each_output_channel_is_coded_by_its_own_largest_weight():
    weights = np.array([[1.0, 100.0, 0.0], [-0.5, 25.0, 0.0]], np.float32)
    codes, scales = channel_codes(weights)
    np.testing.assert_array_equal(codes, [[127, 127, 0], [-64, 32, 0]])
    np.testing.assert_allclose(scales, [1 / 127, 100 / 127, 1])


@pytest.mark.parametrize(
    ("options", "error", "share"),
    [
        ({"form": "channels"}, 0.02, 0.5),
        ({"bits": 8}, 0.02, 0.5),
        ({"bits": 4, "block": 16}, 0.3, 0.4),
    ],
)
def test_scores_stay_close_and_the_file_becomes_smaller_and_says_so(
    options, error, share, fp32, tmp_path
):
    made = quantize(fp32, tmp_path / "made", **options)
    assert 0 < np.abs(scores(made) - scores(fp32)).max() < error
    assert made.model_bytes < share * fp32.model_bytes
    assert (
        f"{fp32.model_bytes:,} bytes before, {made.model_bytes:,} after"
        in (made.manifest.notes[-1])
    )
    assert made.manifest.precision == f"fp32, weights int{options.get('bits', 8)}"


def test_channels_are_standard_onnx_and_blocks_onnx_runtimes_own(fp32, tmp_path):
    standard = onnx.load(quantize(fp32, tmp_path / "a", form="channels").model_path).graph
    assert {each.domain for each in standard.node} == {""}
    assert [x.op_type for x in standard.node].count("DequantizeLinear") == 2
    floats = {x.name for x in standard.initializer if x.data_type == onnx.TensorProto.FLOAT}
    assert not {"w1", "w2"} & floats
    own = onnx.load(quantize(fp32, tmp_path / "b").model_path).graph
    kinds = [x.op_type for x in own.node]
    assert (kinds.count("MatMulNBits"), kinds.count("MatMul")) == (2, 2)


def test_a_gemms_bias_and_turned_weights_are_kept(fp32, tmp_path):
    made = onnx.load(quantize(fp32, tmp_path / "made", form="channels").model_path).graph
    before = {
        x.name: numpy_helper.to_array(x) for x in onnx.load(fp32.model_path).graph.initializer
    }
    after = {x.name: numpy_helper.to_array(x) for x in made.initializer}
    weights = after["w1_turned_int8"] * after["w1_turned_scales"]
    np.testing.assert_allclose(weights, before["w1"].T, atol=after["w1_turned_scales"].max() / 2)
    np.testing.assert_array_equal(after["b1"], before["b1"])


def test_layers_are_left_by_name_and_4_bits_need_blocks(fp32, tmp_path):
    made = quantize(fp32, tmp_path / "made", exclude="*")
    np.testing.assert_array_equal(scores(made), scores(fp32))
    with pytest.raises(UserError, match="form 'channels' has 8 alone"):
        make_stage("quantize_weights", {"form": "channels", "bits": 4})
