"""Layers in few bits, in floats: exactly what the operators of ONNX compute."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from optimize.sensitivity.layers import Product
from optimize.sensitivity.rounding import rounded_input, rounded_weight, weight_bytes


@pytest.fixture(scope="module")
def session():
    """Quantizes an input as `quantize_dynamic` has it done, and brings it back."""
    graph = helper.make_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
        ],
        "dynamic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnxruntime.InferenceSession(
        onnx.ModelProto.SerializeToString(model), providers=["CPUExecutionProvider"]
    )


def product(rows):
    return Product(None, 0, 1, outputs_first=True, rows=rows)


class TestInputs:
    @pytest.mark.parametrize(
        ("shape", "rows"), [((9, 7), (0, 1)), ((18, 7), (0, 2)), ((4, 9, 7), (1, 1))]
    )
    @pytest.mark.parametrize("sign", ["both", "positive", "negative"])
    def test_each_request_has_a_range_of_its_own_wherever_its_rows_are(
        self, session, shape, rows, sign
    ):
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        values = {"both": values, "positive": abs(values) + 1, "negative": -abs(values) - 1}[sign]
        request = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
        place, times = rows
        index = np.repeat(request, times)
        values *= np.moveaxis(10.0 ** index.reshape(-1, *[1] * (len(shape) - 1)), 0, place)
        values = values.astype(np.float32)
        found = rounded_input(torch.from_numpy(values), product(rows), torch.from_numpy(request))
        for each in range(3):
            own = np.take(values, np.flatnonzero(index == each), axis=place)
            (expected,) = session.run(None, {"x": own})
            mine = np.take(found.numpy(), np.flatnonzero(index == each), axis=place)
            # A value half way between two codes may go to either; all others are the same.
            step = np.ptp(np.append(own, 0)) / 255
            assert (abs(mine - expected) <= 1.01 * step).all()
            assert (abs(mine - expected) < 1e-3 * step).mean() > 0.95

    def test_where_rows_are_not_known_all_share_one_range(self, session):
        values = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
        found = rounded_input(torch.from_numpy(values), product(None), torch.tensor([0, 1]))
        (expected,) = session.run(None, {"x": values})
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


class TestWeights:
    def test_int8_has_a_scale_for_each_output(self):
        weight = torch.tensor([[1.0, -0.5, 0.003], [100.0, 50.0, 0.3]])
        found = rounded_weight(weight, "int8", seven_bits=False)
        codes = found / torch.tensor([[1 / 127], [100 / 127]])
        torch.testing.assert_close(codes, torch.tensor([[127.0, -64, 0], [127, 64, 0]]))

    def test_seven_bits_are_coarser(self):
        weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
        eight, seven = (
            (rounded_weight(weight, "int8", seven_bits=x) - weight).abs().mean()
            for x in (False, True)
        )
        assert 1.5 < seven / eight < 2.5

    def test_int4_has_a_scale_for_32_inputs_so_an_outlier_spoils_no_others(self):
        weight = torch.ones(1, 40)
        weight[0, 0] = 1000
        found = rounded_weight(weight, "int4", seven_bits=False)
        assert found[0, 0] == 1000
        assert (found[0, 1:32] == 0).all()
        torch.testing.assert_close(found[0, 32:], torch.ones(8))

    def test_bytes_are_of_codes_and_scales(self):
        weight = torch.zeros(3, 40)
        assert weight_bytes(weight, "int8") == 3 * (40 + 4)
        assert weight_bytes(weight, "int4") == 3 * 2 * (16 + 4)
