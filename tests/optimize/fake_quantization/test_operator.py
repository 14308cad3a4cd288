"""The operator that rounds to 8 bits, against torch's own rounding and its float8."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from optimize.fake_quantization.operator import FORMS, quantize_dequantize
from optimize.fake_quantization.ranges import (
    GREATEST,
    LEAST,
    held_exactly,
    matrix_range,
    observed_range,
)


def values(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * 2


def away_from_ties(x, scale):
    """Whether torch, which multiplies by the inverse of a scale, must round as a division does."""
    return ((x / scale).remainder(1) - 0.5).abs() > 1e-4


class TestInt8:
    def test_with_one_scale_it_is_torchs_fake_quantization(self):
        x, amax = values(400, 64), torch.tensor(3.140625)
        found = quantize_dequantize(x, amax, 8, 0)
        expected = torch.fake_quantize_per_tensor_affine(x, amax / 127, torch.tensor(0), -128, 127)
        sure = away_from_ties(x, amax / 127)
        assert sure.float().mean() > 0.99
        assert torch.equal(found[sure], expected[sure])
        assert (found - x).abs().max() > 1  # values beyond were cut

    def test_with_a_scale_for_each_output_it_is_torchs_as_well(self):
        x = values(64, 400)
        amax = matrix_range(x, per_output=True)
        found = quantize_dequantize(x, amax, 8, 0)
        scales = (amax / 127).squeeze(1)
        zeros = torch.zeros(64, dtype=torch.int32)
        expected = torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, -128, 127)
        sure = away_from_ties(x, amax / 127)
        assert sure.float().mean() > 0.99
        assert torch.equal(found[sure], expected[sure])
        assert ((found - x).abs() <= amax / 254 * 1.0001).all()

    def test_halves_go_to_even_and_the_ends_are_those_of_8_signed_bits(self):
        x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 1e9, -127.6, -128.6, -1e9])
        found = quantize_dequantize(x, torch.tensor(127.0), 8, 0)
        assert found.tolist() == [0, 2, 2, 0, -2, 126, 127, 127, -128, -128, -128]


class TestFp8:
    def test_it_is_torchs_float8_of_what_was_scaled(self):
        x, amax = values(400, 64), torch.tensor(3.5)  # its scale is a power of two
        found = quantize_dequantize(x, amax, 8, 4)
        inside = x.abs() <= 3.5
        expected = (x[inside] * 128).to(torch.float8_e4m3fn).to(torch.float32) / 128
        assert torch.equal(found[inside], expected)
        assert (found[~inside].abs() == 3.5).all()

    def test_all_256_codes_come_out_as_they_went_in(self):
        codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).to(torch.float32)
        found = quantize_dequantize(codes, torch.tensor(448.0), 8, 4)
        np.testing.assert_array_equal(found, codes)  # two of them are not numbers


class TestOperator:
    @pytest.mark.parametrize("kind", FORMS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_shapes_and_types_are_those_of_what_goes_in(self, kind, dtype):
        x = values(5, 7).to(dtype)
        amax = matrix_range(x, per_output=FORMS[kind].per_output)
        given = (x, amax, 8, FORMS[kind].exponent_bits)
        with FakeTensorMode() as mode:
            traced = quantize_dequantize(*map(mode.from_tensor, given[:2]), *given[2:])
        found = quantize_dequantize(*given)
        assert (traced.shape, traced.dtype, traced.stride()) == (x.shape, dtype, found.stride())
        assert (found.shape, found.dtype) == (x.shape, dtype)

    @pytest.mark.parametrize("wrong", [(4, 0), (8, 5)])
    def test_other_bits_are_refused(self, wrong):
        with pytest.raises(ValueError, match="expected 8, and 0 or 4"):
            quantize_dequantize(values(2), torch.tensor(1.0), *wrong)


class TestRanges:
    def test_a_range_survives_16_bits_and_is_hardly_wider(self):
        amax = torch.cat([values(5000).abs() * 3, torch.tensor([0.0, 1e-9, 60000.0])])
        found = held_exactly(amax)
        for half in (torch.float16, torch.bfloat16):
            assert torch.equal(found.to(half).to(torch.float32), found)
        usual = amax > LEAST
        assert ((found >= amax) & (found <= amax * (1 + 2**-7)))[usual].all()
        assert (found[~usual] == LEAST).all()
        assert held_exactly(torch.tensor(1e9)) == GREATEST

    def test_a_percentile_cuts_what_lies_beyond_and_minmax_nothing(self):
        x = torch.arange(-1000, 1001).float()
        x[0] = -9000
        assert observed_range(x, "minmax", 99.0) == held_exactly(torch.tensor(9000.0))
        assert observed_range(x, "percentile", 100.0) == held_exactly(torch.tensor(9000.0))
        # numpy's, by the same definition: the least value that so many lie within.
        expected = np.quantile(x.abs().numpy(), 0.9, method="inverted_cdf")
        found = observed_range(x, "percentile", 90.0)
        assert found == held_exactly(torch.tensor(expected))
