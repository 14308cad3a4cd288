from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny_ranker import SIGNATURE, make_request

from optimize.artifact import open_artifact
from optimize.samples import sample_columns
from optimize.triton.wire_graph import wire_model, write_graph
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.requests import RankingRequest
from rankers.wire import pack_request, wire_tensors


def flat_model(signature, *, unused=(), score_type=TensorProto.FLOAT, gelu=False, opset=18):
    """Make a graph whose score weighs every value of every feature differently, but of some.

    Names of its own hold an @, which no feature's does.
    """
    random = np.random.default_rng(0)
    read = [each for each in signature.features if each.name not in unused]
    nodes, weights, parts = [], [numpy_helper.from_array(np.array([-1]), "@flat")], []
    for each in read:
        weight = random.normal(size=(each.width, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"{each.name}@weight"))
        nodes += [
            helper.make_node("Cast", [each.name], [f"{each.name}@float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", [f"{each.name}@float"], [f"{each.name}@rows"]),
            helper.make_node(
                "MatMul", [f"{each.name}@rows", f"{each.name}@weight"], [f"{each.name}@part"]
            ),
        ]
        parts.append(f"{each.name}@part")
    nodes.append(helper.make_node("Sum", parts, ["@sum"]))  # [rows, 1]
    if gelu:
        nodes.append(helper.make_node("Gelu", ["@sum"], ["@logit"], domain="com.microsoft"))
    else:
        nodes.append(helper.make_node("Identity", ["@sum"], ["@logit"]))
    nodes.append(helper.make_node("Reshape", ["@logit", "@flat"], ["@logits"]))
    nodes.append(helper.make_node("Cast", ["@logits"], ["@result"], to=score_type))
    graph = helper.make_graph(
        nodes,
        "flat",
        [
            helper.make_tensor_value_info(
                each.name, helper.np_dtype_to_tensor_dtype(np.dtype(each.dtype)), ["n", *each.shape]
            )
            for each in read
        ],
        [helper.make_tensor_value_info("@result", score_type, ["n"])],
        weights,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run(model, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what fails here fails on purpose
    content = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}
    return session.run(None, {name: inputs[name] for name in names})


def sample_request(signature, candidates, seed=0):
    columns = sample_columns(signature, candidates + seed)
    return RankingRequest(
        user={each.name: columns[each.name][:1] for each in signature.user},
        items={each.name: columns[each.name][:candidates] for each in signature.item},
    )


names = st.one_of(
    st.text("abc", min_size=1, max_size=3),
    # What the wire form itself uses names for.
    st.sampled_from(["score", "user_int64", "item_float32", "shape", "pairs"]),
)
features = st.builds(
    Feature,
    name=names,
    dtype=st.sampled_from(["int64", "int32", "float32", "float64", "float16", "bool"]),
    shape=st.lists(st.integers(1, 3), max_size=2).map(tuple),
    side=st.sampled_from(["user", "item"]),
)
signatures = st.lists(features, min_size=1, max_size=8, unique_by=lambda each: each.name).filter(
    lambda each: any(feature.side == "item" for feature in each)
)


@settings(max_examples=60, deadline=None)
@given(signatures, st.integers(1, 40), st.data())
def test_it_scores_a_packed_request_bit_for_bit_as_the_flat_graph_its_rows(given, count, data):
    signature = Signature(tuple(given))
    unused = data.draw(st.sets(st.sampled_from([each.name for each in given[1:]] or [""])))
    score_type = data.draw(st.sampled_from([TensorProto.FLOAT, TensorProto.DOUBLE]))
    flat = flat_model(signature, unused=unused, score_type=score_type)
    wire = wire_model(flat, signature)
    onnx.checker.check_model(wire, full_check=True)
    request = sample_request(signature, count)
    (expected,) = run(flat, request.flat())
    (scores,) = run(wire, pack_request(wire_tensors(signature), request))
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, expected[np.newaxis].astype(np.float32))


@pytest.mark.parametrize("candidates", [1, 2, 20, 333])
def test_requests_of_one_size_are_scored_side_by_side(tiny_artifact, tiny_predictor, candidates):
    wire = wire_model(onnx.load(tiny_artifact.model_path), SIGNATURE)
    random = np.random.default_rng(candidates)
    requests = [make_request(random, candidates) for _ in range(3)]
    packed = [pack_request(wire_tensors(SIGNATURE), each) for each in requests]
    joined = {name: np.concatenate([each[name] for each in packed]) for name in packed[0]}
    (scores,) = run(wire, joined)
    assert scores.shape == (3, candidates)
    for row, request in zip(scores, requests, strict=True):
        np.testing.assert_allclose(row, tiny_predictor(request.flat()), rtol=0, atol=1e-6)


def test_its_inputs_and_output_are_the_tensors_of_the_wire(tiny_artifact):
    wire = wire_model(onnx.load(tiny_artifact.model_path), SIGNATURE)

    def shapes(values):
        return {
            each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
            for each in values
        }

    assert shapes(wire.graph.input) == {
        "user_int64": ["requests", 4],
        "user_float32": ["requests", 4],
        "item_int64": ["requests", "candidates", 1],
        "item_float32": ["requests", "candidates", 2],
    }
    assert shapes(wire.graph.output) == {"score": ["requests", "candidates"]}


def test_versions_and_operators_of_onnx_runtimes_own_are_kept():
    flat = flat_model(SIGNATURE, gelu=True, opset=20)
    wire = wire_model(flat, SIGNATURE)
    assert wire.ir_version == flat.ir_version
    assert list(wire.opset_import) == list(flat.opset_import)
    request = make_request(np.random.default_rng(0), 9)
    (expected,) = run(flat, request.flat())
    (scores,) = run(wire, pack_request(wire_tensors(SIGNATURE), request))
    np.testing.assert_array_equal(scores[0], expected)


def test_weights_in_a_file_beside_the_graph_stay_there(tmp_path):
    flat = flat_model(SIGNATURE)
    expected = run(flat, make_request(np.random.default_rng(0), 5).flat())[0]
    path = tmp_path / "model.onnx"
    # The least size leaves the shape of a Reshape, one int64 in 41 bytes of Python, in the graph.
    onnx.save(flat, path, save_as_external_data=True, location="weights.bin", size_threshold=42)
    weights = (tmp_path / "weights.bin").read_bytes()
    write_graph(wire_model, path, path, SIGNATURE)
    assert (tmp_path / "weights.bin").read_bytes() == weights
    request = make_request(np.random.default_rng(0), 5)
    (scores,) = run(str(path), pack_request(wire_tensors(SIGNATURE), request))
    np.testing.assert_array_equal(scores[0], expected)


def test_an_exported_and_offline_optimized_graph_has_a_wire_form(onnx_artifact, store, tmp_path):
    from optimize.build import run_stage
    from optimize.runtimes import open_predictor

    for artifact in (onnx_artifact, run_stage("optimize_onnx", {}, onnx_artifact, store)):
        signature = open_artifact(artifact.folder).manifest.signature
        write_graph(wire_model, artifact.model_path, tmp_path / "model.onnx", signature)
        for candidates in (1, 2, 64):
            request = sample_request(signature, candidates)
            packed = pack_request(wire_tensors(signature), request)
            (scores,) = run(str(tmp_path / "model.onnx"), packed)
            expected = open_predictor(artifact, threads=1)(request.flat())
            np.testing.assert_array_equal(scores[0], expected)


def test_weights_listed_as_inputs_are_no_inputs_of_the_wire():
    flat = flat_model(SIGNATURE)
    for each in flat.graph.initializer:
        flat.graph.input.append(
            helper.make_tensor_value_info(each.name, each.data_type, list(each.dims))
        )
    wire = wire_model(flat, SIGNATURE)
    assert {each.name for each in wire.graph.input} == {
        each.name for each in wire_tensors(SIGNATURE)
    }


@pytest.mark.parametrize("candidates", [0, 1, 4])
def test_tensors_of_different_numbers_of_candidates_fail(tiny_artifact, candidates):
    wire = wire_model(onnx.load(tiny_artifact.model_path), SIGNATURE)
    packed = pack_request(wire_tensors(SIGNATURE), make_request(np.random.default_rng(0), 3))
    packed["item_float32"] = np.zeros((1, candidates, 2), np.float32)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="Reshape"):
        run(wire, packed)


def test_an_input_that_is_no_feature_is_named():
    fewer = Signature(SIGNATURE.features[:-1])
    with pytest.raises(UserError, match="input 'price' that is no feature"):
        wire_model(flat_model(SIGNATURE), fewer)


def test_an_operator_set_without_what_the_wire_form_needs_is_named():
    with pytest.raises(UserError, match="operator set 13; the wire form needs 15"):
        wire_model(flat_model(SIGNATURE, opset=13), SIGNATURE)
