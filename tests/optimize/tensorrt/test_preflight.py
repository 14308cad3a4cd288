"""Preflight: each thing that TensorRT would refuse is found, with the node and why."""

import json
import subprocess

import dense_ranker
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from small_graphs import drawn, make_model, node

from optimize.cli import main
from optimize.tensorrt.operators import operators
from optimize.tensorrt.preflight import check_graph
from optimize.tensorrt.profiles import Span, make_profile
from optimize.tensorrt.script import build_script
from rankers.errors import UserError

CODES = {"scale": np.float32(0.1), "zero": np.int8(0)}


def found(tmp_path, nodes, weights=None, **options):
    options.setdefault("shape", ("rows", 4))
    onnx.save(make_model(nodes, weights, **options), tmp_path / "model.onnx")
    return [str(each) for each in check_graph(tmp_path / "model.onnx")]


def test_every_operator_of_the_table_is_onnxs_and_every_type_too():
    known = {each.name for each in onnx.defs.get_all_schemas_with_history()}
    listed = operators().types
    assert len(listed) > 130
    # TensorRT's parser still knows names that ONNX dropped before its first operator set.
    assert set(listed) <= known
    assert set().union(*listed.values()) <= set(TensorProto.DataType.keys())


def test_a_ranker_of_usual_operators_passes_in_fp32(tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32")
    assert check_graph(artifact.model_path) == ()


@pytest.mark.parametrize(
    ("nodes", "weights", "said"),
    [
        ([node("Bernoulli", "x", "score")], {}, "score (Bernoulli): TensorRT 10.15 does not have"),
        (
            [helper.make_node("Gelu", ["x"], ["score"], name="own", domain="com.microsoft")],
            {},
            "own (Gelu): an operator of com.microsoft: leave out optimize_onnx",
        ),
        (
            [node("Cast", "x", "wide", to=TensorProto.DOUBLE), node("Cast", "wide", "score", to=1)],
            {},
            "wide (Cast): makes DOUBLE; TensorRT takes",
        ),
        (
            [
                node("QuantizeLinear", "x scale zero", "q"),
                node("DequantizeLinear", "q scale zero", "score"),
            ],
            CODES | {"zero": np.uint8(128)},
            "q (QuantizeLinear): makes UINT8; TensorRT takes FLOAT4E2M1, FLOAT8E4M3FN, INT4, INT8",
        ),
        (
            [
                node("QuantizeLinear", "x scale zero", "q"),
                node("DequantizeLinear", "q scale zero", "score"),
            ],
            CODES | {"zero": np.int8(3)},
            "q (QuantizeLinear): its zero point is not 0",
        ),
        (
            [
                node("QuantizeLinear", "x scale zero", "q", axis=1),
                node("DequantizeLinear", "q scale zero", "score", axis=1),
            ],
            {"scale": np.full(4, 0.1, np.float32), "zero": np.zeros(4, np.int8)},
            "q (QuantizeLinear): an activation has a scale for each channel",
        ),
        (
            [
                node("DequantizeLinear", "bias scale", "b"),
                node("Add", "x b", "score"),
            ],
            CODES | {"bias": np.array([1, 2, 3, 4], np.int32)},
            "b (DequantizeLinear): reads INT32; TensorRT takes FLOAT4E2M1, FLOAT8E4M3FN, INT4",
        ),
        (
            [
                node("Gather", "codes ids", "rows"),
                node("Cast", "rows", "floats", to=1),
                node("Add", "floats x", "score"),
            ],
            {"codes": np.zeros((3, 4), np.int8), "ids": np.array([1])},
            "rows (Gather): reads INT8",
        ),
        (
            [
                node("Cast", "x", "half", to=TensorProto.FLOAT16),
                node("Add", "half x", "score"),
            ],
            {},
            "score (Add): mixes FLOAT and FLOAT16",
        ),
        (
            [
                node("Shape", "x", "axes", start=1, end=2),
                node("ReduceSum", "x axes", "score"),
            ],
            {},
            "score (ReduceSum): its axes are computed",
        ),
        (
            [helper.make_node("TopK", ["x", "k"], ["score", "places"], name="top", sorted=0)],
            {"k": np.array([2])},
            "top (TopK): sorted is 0",
        ),
        (
            [helper.make_node("TopK", ["x", "k"], ["score", "places"], name="top")],
            {"k": np.array([4000])},
            "top (TopK): K is 4000",
        ),
        (
            [
                node("QuantizeLinear", "x scale zero", "q"),
                node("DequantizeLinear", "q scale zero", "score"),
            ],
            CODES | {"scale": np.float32(-0.1)},
            "q (QuantizeLinear): a scale is not above 0",
        ),
        (
            [helper.make_node("LayerNormalization", ["x", "w"], ["score", "mean"], name="norm")],
            {"w": np.ones(4, np.float32)},
            "norm (LayerNormalization): only its first output",
        ),
        (
            [node("ScatterND", "x places more", "score", reduction="add")],
            {"places": np.array([[0]]), "more": np.ones((1, 4), np.float32)},
            "score (ScatterND): reduction is b'add'",
        ),
        (
            [
                node("Size", "x", "depth"),
                node("OneHot", "ids depth values", "score"),
            ],
            {"ids": np.array([1]), "values": np.array([0, 1], np.float32)},
            "score (OneHot): its depth is computed",
        ),
    ],
)
def test_what_tensorrt_refuses_is_found_and_named(nodes, weights, said, tmp_path):
    lines = found(tmp_path, nodes, weights)
    assert [line for line in lines if line.startswith(said)], lines


def test_what_follows_a_runtimes_own_operator_is_not_blamed_for_it(tmp_path):
    own = helper.make_node("FusedGemm", ["x", "w"], ["y"], name="own", domain="com.microsoft")
    lines = found(tmp_path, [own, node("Relu", "y", "score")], {"w": drawn(4, 4)})
    assert [line.partition(":")[0] for line in lines] == ["own (FusedGemm)"]


def test_inputs_and_operator_sets_are_looked_at(tmp_path):
    inputs = {"x": (TensorProto.DOUBLE, ["rows", 4])}
    lines = found(tmp_path, [node("Cast", "x", "score", to=1)], inputs=inputs)
    assert lines[0] == "x: an input or output in DOUBLE, which TensorRT lacks"
    old = found(tmp_path, [node("Relu", "x", "score")], opset=8)
    assert old == ["graph: operator set 8; TensorRT takes 9 to 24"]


class TestProfile:
    CANDIDATES, REQUESTS = Span(1, 50, 400), Span(1, 2, 8)

    def profile(self, folder, layout):
        made = dense_ranker.make_artifact(folder, layout=layout)
        return make_profile(made.manifest, made.model_path, self.CANDIDATES, self.REQUESTS)

    def test_a_user_has_a_row_for_each_request_and_an_item_one_for_each_candidate(self, tmp_path):
        profile, findings = self.profile(tmp_path / "once", "user_once")
        assert findings == ()
        assert profile.shapes == {
            "item_id": ((1,), (100,), (3200,)),
            "context": ((1, 16), (2, 16), (8, 16)),
            "price": ((1, 8), (100, 8), (3200, 8)),
            "item_to_request": ((1,), (100,), (3200,)),
        }
        flat, _ = self.profile(tmp_path / "flat", "flat")
        assert flat.shapes["context"] == ((1, 16), (100, 16), (3200, 16))

    @pytest.mark.parametrize(
        ("place", "size", "said"),
        [
            (0, 50, "price: has 50 rows, fixed; the profile wants 1 to 3200"),
            (1, 7, "price: dimension 1 is 7; the signature says 8"),
        ],
    )
    def test_an_input_that_the_profile_does_not_fit_is_found(self, place, size, said, tmp_path):
        made = dense_ranker.make_artifact(tmp_path / "flat")
        model = onnx.load(made.model_path)
        price = next(each for each in model.graph.input if each.name == "price")
        price.type.tensor_type.shape.dim[place].dim_value = size
        onnx.save(model, tmp_path / "fixed.onnx")
        _, findings = make_profile(
            made.manifest, tmp_path / "fixed.onnx", self.CANDIDATES, self.REQUESTS
        )
        assert [str(each) for each in findings] == [said]

    @pytest.mark.parametrize("numbers", [(0, 1, 2), (2, 1, 3), (1, 5, 4)])
    def test_a_profile_out_of_order_is_refused(self, numbers):
        with pytest.raises(UserError, match="expected least, usual and most"):
            Span(*numbers)


class TestScript:
    def test_it_is_a_shell_script_with_the_shapes_of_every_input(self, tmp_path):
        made = dense_ranker.make_artifact(tmp_path / "once", layout="user_once")
        profile, _ = make_profile(made.manifest, made.model_path, Span(1, 50, 400), Span(1, 2, 8))
        script = build_script("model.onnx", profile, name="it's\nmine")
        subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=True)
        shapes = "item_id:100,context:2x16,price:100x8,item_to_request:100"
        assert f"--optShapes={shapes}" in script
        assert "of it's mine here" in script

    def test_preflight_prints_findings_or_the_script_and_fails_where_something_is_found(
        self, tmp_path
    ):
        made = dense_ranker.make_artifact(tmp_path / "flat")

        def run(*options):
            return CliRunner().invoke(main, ["preflight", str(made.folder), *options])

        passed = run()
        assert passed.exit_code == 0
        assert passed.output.startswith("✓ TensorRT 10.15 has every operator")
        assert run("--script").output.startswith("#!/bin/sh")
        said = json.loads(run("--json", "--candidates", "1,2,3").output)
        assert said["profile"]["item_id"] == [[1], [2], [48]]
        assert run("--candidates", "3,2").exit_code == 2
        assert run("--candidates", "3,2,1").exit_code == 2


def test_a_table_in_float16_with_its_products_passes(tmp_path):
    nodes = [
        node("Cast", "x", "half", to=TensorProto.FLOAT16),
        node("MatMul", "half w", "product"),
        node("Cast", "product", "score", to=1),
    ]
    assert found(tmp_path, nodes, {"w": drawn(4, 4).astype(np.float16)}) == []
