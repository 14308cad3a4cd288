"""Attention as ONNX Runtime computes it fast: the same weights, and none of them denormal."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from small_graphs import make_model, node

from optimize.stages.optimize_onnx import rewritten

HEADS, LENGTH, SIZE = 2, 6, 4
# x is [rows, L, H, d], and seen says which of the L places are filled.
INPUTS = {
    "x": (onnx.TensorProto.FLOAT, ["rows", LENGTH, HEADS, SIZE]),
    "seen": (onnx.TensorProto.BOOL, ["rows", LENGTH]),
}
WEIGHTS = {
    "zero": np.float32(0),
    "far": np.float32(-1e9),
    "minus_infinity": np.float32(-np.inf),
    "near": np.float32(-10),
    "over_heads": np.array([1, 2]),
    "flat": np.array([-1, LENGTH, SIZE]),
    "apart": np.array([-1, HEADS, SIZE, LENGTH]),
    "axes": np.array([1, 2, 3]),
}
KEYS = [
    node("Transpose", "x", "heads", perm=[0, 2, 1, 3]),
    # As PyTorch's exporter swaps the last two dimensions.
    node("Reshape", "heads flat", "heads3"),
    node("Transpose", "heads3", "turned3", perm=[0, 2, 1]),
    node("Reshape", "turned3 apart", "turned"),
]
GUARD = [
    node("IsNaN", "p", "nothing"),
    node("Where", "nothing zero p", "weights"),
]
PLAIN = [node("Identity", "p", "weights")]


def attention(mask, after=PLAIN, keys=KEYS):
    """Make a graph whose score for a row is a number of its attention."""
    nodes = [
        *keys,
        node("MatMul", "heads turned", "scores"),
        *mask,
        node("Softmax", "masked", "p", axis=-1),
        *after,
        node("MatMul", "weights heads", "read"),
        node("ReduceL2", "read axes", "score", keepdims=0),
    ]
    return make_model(nodes, WEIGHTS, inputs=INPUTS)


def mask_of(value):
    return [
        node("Where", f"seen zero {value}", "flat_mask"),
        node("Unsqueeze", "flat_mask over_heads", "mask"),
        node("Add", "scores mask", "masked"),
    ]


def rewrite(model, folder):
    onnx.save(model, folder / "graph.onnx")
    given = rewritten(folder / "graph.onnx")
    return onnx.load_from_string(given) if isinstance(given, bytes) else None


def kinds(model):
    return Counter(each.op_type for each in model.graph.node)


def run(model, inputs, output="score"):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=output))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, inputs)[0]


def drawn(rows=40, *, filled=0.5, nothing=()):
    """Draw inputs; rows of ``nothing`` see no place, others one at least."""
    random = np.random.default_rng(rows)
    x = random.normal(size=(rows, LENGTH, HEADS, SIZE)).astype(np.float32)
    seen = random.random((rows, LENGTH)) < filled
    seen[:, 0] = True
    seen[list(nothing)] = False
    return {"x": x, "seen": seen}


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize(
    ("value", "after"), [("far", PLAIN), ("minus_infinity", PLAIN), ("minus_infinity", GUARD)]
)
def test_weights_stay_as_they_were_and_none_is_denormal(value, after, rows, tmp_path):
    model = attention(mask_of(value), after)
    made = rewrite(model, tmp_path)
    assert kinds(made)["Min"] == 1
    given = drawn(rows, nothing=[rows // 2] if rows > 1 else [])
    np.testing.assert_allclose(run(made, given), run(model, given), rtol=1e-6)
    weights = run(made, given, "weights")
    smallest = weights[weights > 0].min()
    assert smallest > np.finfo(np.float32).tiny


def test_a_row_that_sees_nothing_is_what_it_was(tmp_path):
    given = drawn(5, nothing=[2])
    for value, after, expected in (
        ("far", PLAIN, 1 / LENGTH), ("minus_infinity", GUARD, 0), ("minus_infinity", PLAIN, np.nan),
    ):  # fmt: skip
        made = rewrite(attention(mask_of(value), after), tmp_path)
        weights = run(made, given, "weights")[2]
        np.testing.assert_allclose(weights, np.full_like(weights, expected), rtol=1e-6)


@pytest.mark.parametrize(
    "mask",
    [
        mask_of("near"),  # what is masked still counts
        # Scores may have been added that are no mask.
        [
            node("Where", "seen zero far", "flat_mask"),
            node("Unsqueeze", "flat_mask over_heads", "mask"),
            node("Add", "mask scores", "once"),
            node("Add", "once scores", "masked"),
        ],
        # A product may be anything.
        [
            node("Cast", "seen", "number", to=onnx.TensorProto.FLOAT),
            node("Mul", "number far", "flat_mask"),
            node("Unsqueeze", "flat_mask over_heads", "mask"),
            node("Add", "scores mask", "masked"),
        ],
    ],
)
def test_what_is_not_known_to_be_a_mask_is_left(mask, tmp_path):
    made = rewrite(attention(mask), tmp_path)  # its keys are turned
    assert (kinds(made)["Min"], kinds(made)["Reshape"]) == (0, 0)


def test_a_causal_mask_of_constants_is_one_too(tmp_path):
    model = attention([node("Add", "causal scores", "masked")])
    causal = np.triu(np.full((LENGTH, LENGTH), -np.inf, np.float32), 1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(causal, "causal"))
    made = rewrite(model, tmp_path)
    assert kinds(made)["Min"] == 1
    np.testing.assert_allclose(run(made, drawn()), run(model, drawn()), rtol=1e-6)


class TestKeys:
    def test_they_are_turned_in_one_step_from_what_was_split(self, tmp_path):
        model = attention(mask_of("far"))
        made = rewrite(model, tmp_path)
        assert (kinds(model)["Reshape"], kinds(made)["Reshape"]) == (2, 0)
        perms = {
            tuple(onnx.helper.get_node_attr_value(each, "perm"))
            for each in made.graph.node
            if each.op_type == "Transpose"
        }
        assert perms == {(0, 2, 1, 3), (0, 2, 3, 1)}

    def test_a_turn_that_mixes_rows_is_left(self, tmp_path):
        # [rows, H, L, d] as [rows·L, H, d], whose swap is another one.
        weights = {**WEIGHTS, "flat": np.array([-1, HEADS, SIZE])}
        nodes = [
            *KEYS[:3],
            node("Reshape", "turned3 apart", "turned"),
            node("ReduceL2", "turned axes", "score", keepdims=0),
        ]
        assert rewrite(make_model(nodes, weights, inputs=INPUTS), tmp_path) is None
