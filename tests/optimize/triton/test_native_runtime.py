from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from optimize.triton.native_runtime import (
    NEWEST_IR,
    NEWEST_OPSET,
    ONNX_RUNTIME,
    TRITON_RELEASE,
    check_native_runtime,
)
from rankers.errors import UserError


@pytest.fixture
def write(tmp_path):
    """Write a graph of one node and return its path."""

    def written(*, operator="Identity", domain="", ir_version=NEWEST_IR, opset=NEWEST_OPSET):
        value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
        node = helper.make_node(operator, [], ["y"], domain=domain)
        # Within a branch, where only a walk through the graphs finds it.
        branch = helper.make_graph([node], "branch", [], [value])
        chosen = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
        given = helper.make_tensor_value_info("x", TensorProto.BOOL, [])
        model = helper.make_model(
            helper.make_graph([chosen], "g", [given], [value]),
            opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(domain or "d", 1)],
            ir_version=ir_version,
        )
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return written


def test_a_graph_at_the_limits_passes(write):
    check_native_runtime(write())


def test_an_operator_that_the_image_has_passes(write):
    check_native_runtime(write(operator="FusedMatMul", domain="com.microsoft"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ir_version": NEWEST_IR + 1}, f"ONNX IR version {NEWEST_IR + 1}"),
        ({"opset": NEWEST_OPSET + 1}, f"operator set {NEWEST_OPSET + 1}"),
        ({"operator": "GatedAdd", "domain": "com.microsoft"}, r"operator com\.microsoft\.GatedAdd"),
        ({"operator": "Mine", "domain": "my.own"}, r"operator my\.own\.Mine"),
    ],
)
def test_what_is_too_new_is_named_in_one_line(write, change, said):
    with pytest.raises(UserError, match=said) as caught:
        check_native_runtime(write(**change))
    assert "\n" not in str(caught.value)
    assert f"ONNX Runtime {ONNX_RUNTIME} of Triton {TRITON_RELEASE}" in str(caught.value)


def test_the_dockerfile_takes_the_release_that_was_checked_for():
    dockerfile = (Path(__file__).parents[3] / "Dockerfile.triton").read_text()
    assert re.findall(r"^FROM \S+:(\S+)-py3", dockerfile, re.MULTILINE) == [TRITON_RELEASE]
    assert f"ONNX Runtime {ONNX_RUNTIME}" in dockerfile
