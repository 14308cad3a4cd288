"""The graph that engines are built of scores as the artifact does, fed as a server feeds it."""

from dataclasses import replace

import dense_ranker
import numpy as np
import onnx
import onnxruntime
import pytest

from optimize.artifact import seal
from optimize.buckets import Buckets
from optimize.build import run_stage
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.tensorrt.dense import open_dense, write_dense
from optimize.wire_inputs import WireInputs
from rankers.errors import UserError
from rankers.wire import pack_request, wire_tensors

BUCKETS = Buckets((8, 64))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    return {
        layout: dense_ranker.make_artifact(folder / layout, layout=layout)
        for layout in ("flat", "user_once")
    }


class TestWireInputs:
    def inputs(self, rows=4):
        return WireInputs(dense_ranker.SIGNATURE, rows, "cpu")

    def columns(self, rows):
        return sample_requests(dense_ranker.SIGNATURE, [rows]).joined()

    def test_columns_lie_where_a_server_would_put_them(self):
        requests = sample_requests(dense_ranker.SIGNATURE, [4])
        inputs = self.inputs()
        inputs.pack(requests.joined(), 0, 4)
        inputs.device.copy_(inputs.host)
        packed = pack_request(wire_tensors(dense_ranker.SIGNATURE), requests[0])
        assert set(packed) == set(inputs.named)
        for name, tensor in inputs.named.items():
            np.testing.assert_array_equal(tensor.numpy(), packed[name])

    @pytest.mark.parametrize("value", [100, -1])
    def test_an_id_out_of_range_is_refused_by_name_and_leaves_nothing_behind(self, value):
        inputs, wrong = self.inputs(), self.columns(4)
        wrong["item_id"][3] = value
        with pytest.raises(UserError, match=rf"'item_id' holds the ID {value}; IDs run from 0 to"):
            inputs.pack(wrong, 0, 4)
        assert not inputs.views()["item_id"].any()

    def test_another_dtype_or_length_is_refused_by_name(self):
        given = self.columns(4)
        without = {name: column for name, column in given.items() if name != "price"}
        for wrong in (
            without,
            without | {"price": given["price"].astype(np.float64)},
            without | {"price": given["price"][:3]},
        ):
            with pytest.raises(UserError, match="feature 'price' does not fit"):
                self.inputs().pack(wrong, 0, 4)


class TestDenseGraph:
    @pytest.mark.parametrize("layout", ["flat", "user_once"])
    def test_it_scores_as_the_artifact_does_at_any_size_whatever_is_in_the_padding(
        self, layout, graphs, tmp_path
    ):
        artifact = graphs[layout]
        graph = write_dense(artifact, tmp_path, BUCKETS.sizes)
        dense, plain = open_dense(artifact, graph, BUCKETS), open_predictor(artifact)
        for counts in ([1], [8], [11], [64], [65], [3, 1, 130]):
            requests = sample_requests(artifact.manifest.signature, counts)
            np.testing.assert_allclose(
                dense(requests.joined()), plain(artifact.manifest.columns_of(requests)), atol=1e-6
            )
        given = sample_requests(artifact.manifest.signature, [11]).joined()
        expected = dense(given)
        dense._runs[64].inputs.views()["price"][11:] = np.nan
        np.testing.assert_array_equal(dense(given), expected)

    @pytest.mark.parametrize("layout", ["flat", "user_once"])
    def test_requests_of_equal_size_are_joined_as_a_server_joins_them(
        self, layout, graphs, tmp_path
    ):
        artifact = graphs[layout]
        graph = write_dense(artifact, tmp_path, (8,))
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        requests = sample_requests(artifact.manifest.signature, [5, 5, 5])
        given = {
            each.name: each.pack(requests.user)
            if each.side == "user"
            else each.pack(requests.items).reshape(3, 5, each.width)
            for each in wire_tensors(artifact.manifest.signature)
        }
        (scores,) = session.run(None, given)
        assert scores.shape == (3, 5)
        expected = open_predictor(artifact)(artifact.manifest.columns_of(requests))
        np.testing.assert_allclose(scores.reshape(-1), expected, atol=1e-6)

    def test_what_preflight_finds_stops_the_build_a_line_each(self, tmp_path, store):
        artifact = dense_ranker.make_artifact(tmp_path / "graph")
        model = onnx.load(artifact.model_path)
        for each in model.graph.node:
            if each.output[0] == "score":
                each.output[0] = "unclipped"
        model.graph.node.append(
            onnx.helper.make_node("Gelu", ["unclipped"], ["gelu"], domain="com.microsoft")
        )
        model.graph.node.append(onnx.helper.make_node("Det", ["gelu"], ["score"], name="det"))
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
        folder = tmp_path / "own"
        folder.mkdir()
        onnx.save(model, folder / "model.onnx")
        own = seal(folder, replace(artifact.manifest, model="model.onnx"))
        (tmp_path / "dense").mkdir()
        with pytest.raises(UserError) as found:
            write_dense(own, tmp_path / "dense", (8,))
        first, *lines = str(found.value).splitlines()
        assert first == "TensorRT would refuse this graph (optimize preflight):"
        assert any("an operator of com.microsoft" in each for each in lines)
        assert any("det (Det): TensorRT" in each for each in lines)

    def test_a_graph_in_half_precision_is_proved_as_it_rounds(self, tmp_path, store):
        artifact = dense_ranker.make_artifact(tmp_path / "fp32", layout="user_once")
        half = run_stage("half_precision", {"ranges": "weights"}, artifact, store)
        (tmp_path / "dense").mkdir()
        graph = write_dense(half, tmp_path / "dense", (8, 16))
        types = {each.data_type for each in onnx.load(graph).graph.initializer}
        assert onnx.TensorProto.FLOAT16 in types
