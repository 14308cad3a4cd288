"""Layers over sequences as layers of matrices: the same numbers, by fewer operators."""

from collections import Counter

import history_rankers
import numpy as np
import onnx
import onnxruntime
import pytest
from small_graphs import drawn, make_model, node

from optimize.artifact import Manifest, seal
from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages.optimize_onnx import rewritten as rewrite
from rankers.features import Feature, Signature

# What a block of a transformer has behind its attention; x is [rows, 5, 8].
BLOCK = [
    node("MatMul", "x w1", "h"),
    node("Add", "h b1", "hidden"),
    node("Relu", "hidden", "active"),
    node("MatMul", "active w2", "y"),
    node("Add", "b2 y", "out"),
    node("Add", "out x", "sum"),
    node("LayerNormalization", "sum gain b2", "normal", axis=-1),
    node("ReduceMax", "normal axes", "score", keepdims=0),
]
WEIGHTS = {
    "w1": drawn(8, 16),
    "b1": drawn(16),
    "w2": drawn(16, 8, seed=1),
    "b2": drawn(8, seed=2),
    "gain": drawn(8, seed=3),
    "axes": np.array([1, 2]),
}


def graph(nodes=BLOCK, dims=("rows", 5, 8), weights=WEIGHTS):
    inputs = {"x": (onnx.TensorProto.FLOAT, list(dims))}
    return make_model(nodes, weights, inputs=inputs)


def rewritten(model, folder):
    """Rewrite a model; None if it is left as it is."""
    onnx.save(model, folder / "graph.onnx")
    given = rewrite(folder / "graph.onnx")
    return onnx.load_from_string(given) if isinstance(given, bytes) else None


def kinds(model):
    return Counter(each.op_type for each in model.graph.node)


def opened(model, optimized=None):
    options = onnxruntime.SessionOptions()
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def assert_same(one, other, shape=(5, 8)):
    sessions = [opened(each) for each in (one, other)]
    for rows in (1, 3, 70):
        x = np.random.default_rng(rows).normal(size=(rows, *shape)).astype(np.float32)
        expected, scores = (each.run(None, {"x": x})[0] for each in sessions)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_a_block_is_computed_as_rows_between_one_reshape_and_another(tmp_path):
    made = rewritten(graph(), tmp_path)
    assert kinds(made) == {
        "Gemm": 2, "Relu": 1, "Add": 1, "LayerNormalization": 1, "Reshape": 2, "ReduceMax": 1,
    }  # fmt: skip
    assert_same(graph(), made)


def test_no_session_fuses_what_is_slower_fused(tmp_path):
    opened(graph(), tmp_path / "as_it_was.onnx")
    assert kinds(onnx.load(tmp_path / "as_it_was.onnx"))["SkipLayerNormalization"] == 1
    opened(rewritten(graph(), tmp_path), tmp_path / "rows.onnx")
    found = kinds(onnx.load(tmp_path / "rows.onnx"))
    assert (found["SkipLayerNormalization"], found["FusedGemm"], found["MatMul"]) == (0, 1, 0)


def test_a_normalization_alone_is_kept_from_the_fusion_too(tmp_path):
    lone = [
        node("Add", "x x", "sum"),
        node("LayerNormalization", "sum gain b2", "normal", axis=2, epsilon=0.5),
        node("ReduceMax", "normal axes", "score", keepdims=0),
    ]
    made = rewritten(graph(lone), tmp_path)
    opened(made, tmp_path / "rows.onnx")
    assert kinds(onnx.load(tmp_path / "rows.onnx"))["SkipLayerNormalization"] == 0
    assert_same(graph(lone), made)


def test_a_sum_that_broadcasts_over_the_sequence_is_left_between_reshapes(tmp_path):
    masked = [
        *BLOCK[:2],
        node("ReduceMax", "x first", "mask", keepdims=1),  # [rows, 1, 8]
        node("MatMul", "hidden w2", "y"),
        node("Mul", "y mask", "cut"),
        node("MatMul", "cut w1", "h3"),
        node("Add", "h3 b1", "again"),
        node("ReduceMax", "again axes", "score", keepdims=0),
    ]
    model = graph(masked, weights={**WEIGHTS, "first": np.array([1])})
    made = rewritten(model, tmp_path)
    found = kinds(made)
    assert (found["Gemm"], found["MatMul"], found["Mul"], found["Reshape"]) == (2, 1, 1, 4)
    assert_same(model, made)


def test_heads_are_split_off_the_rows_at_once(tmp_path):
    split = [
        *BLOCK[:2],
        node("Reshape", "hidden heads", "apart"),
        node("ReduceMax", "apart axes", "score", keepdims=0),
    ]
    weights = {**WEIGHTS, "heads": np.array([-1, 5, 2, 8]), "axes": np.array([1, 2, 3])}
    made = rewritten(graph(split, weights=weights), tmp_path)
    assert kinds(made)["Reshape"] == 2
    assert_same(graph(split, weights=weights), made)
    # A 0 is the size that comes in at that place, which rows have no longer.
    weights["heads"] = np.array([0, 0, 2, 8])
    made = rewritten(graph(split, weights=weights), tmp_path)
    assert kinds(made)["Reshape"] == 3
    assert_same(graph(split, weights=weights), made)


@pytest.mark.parametrize("kind", ["Add", "Div", "Mul", "Sub"])
def test_a_vector_for_each_row_is_repeated_over_the_sequence(kind, tmp_path):
    scaled = [
        node(kind, "x gain", "once"),
        node(kind, "b2 once", "twice"),
        node("Sigmoid", "twice", "share"),
        node("ReduceMax", "share axes", "score", keepdims=0),
    ]
    made = rewritten(graph(scaled), tmp_path)
    shapes = {each.name: list(each.dims) for each in made.graph.initializer}
    read = [shapes[x] for each in made.graph.node if each.op_type == kind for x in each.input
            if x in shapes]  # fmt: skip
    assert read == [[40], [40]]
    assert_same(graph(scaled), made)


def test_a_vector_for_long_sequences_is_not(tmp_path):
    scaled = [node("Mul", "x gain", "once"), node("ReduceMax", "once axes", "score", keepdims=0)]
    assert rewritten(graph(scaled, ("rows", 1024, 8)), tmp_path) is not None
    assert rewritten(graph(scaled, ("rows", 1025, 8)), tmp_path) is None
    assert rewritten(graph(scaled, (5, "rows", 8)), tmp_path) is None  # rows in between


def test_a_product_that_is_read_before_its_bias_too_is_no_layer(tmp_path):
    nodes = [*BLOCK[:2], node("Mul", "h hidden", "m"), node("ReduceMax", "m axes", "score")]
    made = rewritten(graph(nodes), tmp_path)
    assert (kinds(made)["MatMul"], kinds(made)["Gemm"]) == (1, 0)
    assert_same(graph(nodes), made)


def test_products_of_whole_numbers_are_left(tmp_path):
    whole = [
        node("Cast", "x", "rounded", to=onnx.TensorProto.INT64),
        node("MatMul", "rounded counts", "h"),
        node("Add", "h counts_bias", "sum"),
        node("Cast", "sum", "floats", to=onnx.TensorProto.FLOAT),
        node("ReduceMax", "floats axes", "score", keepdims=0),
    ]
    weights = {**WEIGHTS, "counts": np.ones((8, 2), np.int64), "counts_bias": np.ones(2, np.int64)}
    assert rewritten(graph(whole, weights=weights), tmp_path) is None


@pytest.mark.parametrize(
    ("nodes", "dims"),
    [
        # Two sizes are open, so none could be told from the rows.
        (BLOCK, ("rows", "length", 8)),
        ([node("MatMul", "x w1", "h"), node("ReduceMax", "h axes", "score")], ("rows", 5, 8)),
        # Already of rows.
        ([*BLOCK[:2], node("ReduceMax", "hidden last", "score")], ("rows", 8)),
    ],
)
def test_others_are_left_as_they_are(nodes, dims, tmp_path):
    model = graph(nodes, dims, {**WEIGHTS, "last": np.array([1])})
    assert rewritten(model, tmp_path) is None


class TestStage:
    @pytest.fixture
    def artifact(self, tmp_path):
        folder = tmp_path / "graph"
        folder.mkdir()
        # As where tables are large; the shapes that are few numbers stay in the graph.
        onnx.save(
            graph(), folder / "model.onnx",
            save_as_external_data=True, location="weights.bin", size_threshold=64,
        )  # fmt: skip
        signature = Signature((Feature("x", "float32", (5, 8), "item"),))
        return seal(folder, Manifest("block", "onnx", "model.onnx", signature))

    @pytest.mark.parametrize(("level", "rows"), [("basic", 0), ("extended", 2), ("all", 2)])
    def test_rows_are_for_levels_with_operators_of_onnx_runtimes_own(
        self, level, rows, artifact, tmp_path
    ):
        made = run_stage("optimize_onnx", {"level": level}, artifact, tmp_path)
        found = kinds(onnx.load(made.model_path))
        assert found["Gemm"] + found["FusedGemm"] == rows
        assert_same(graph(), onnx.load(made.model_path))

    @pytest.mark.parametrize("layout", ["flat", "user_once"])
    def test_a_ranker_with_attention_scores_as_before(self, layout, store):
        artifact = capture(history_rankers.attending(), store, candidates=(1, 5))
        if layout == "user_once":
            artifact = run_stage("user_once", {"when": "always"}, artifact, store)
        exported = run_stage("export_onnx", {}, artifact, store)
        made = run_stage("optimize_onnx", {}, exported, store)
        before, after = (kinds(onnx.load(each.model_path)) for each in (exported, made))
        assert after["MatMul"] < before["MatMul"]
        for counts in [[1], [30]] if layout == "flat" else [[1], [30], [4, 1, 9]]:
            batch = sample_requests(history_rankers.SIGNATURE, counts)
            given = made.manifest.columns_of(batch)
            expected = open_predictor(exported)(given)
            np.testing.assert_allclose(open_predictor(made)(given), expected, atol=2e-6)
