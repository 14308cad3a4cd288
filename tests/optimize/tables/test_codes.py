"""Rows as codes: small errors, whatever other rows hold; zeros stay; packing loses nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimize.tables.codes import decode, encode, pack, row_errors, scale_levels, unpack


def coded(weight, bits):
    scales = scale_levels([(weight, bits)])
    codes = encode(weight, bits, scales)
    return decode(codes, bits, scales, weight.shape[1]), codes


def normal(rows, width, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def with_outliers(rows, width):
    """Make one row in a thousand a hundred times as large, and one value of others."""
    weight = normal(rows, width)
    weight[::1000] *= 100
    weight[500::1000, 3] = 50.0
    return weight


class TestErrors:
    @pytest.mark.parametrize(
        ("width", "limit"), [(8, 0.005), (16, 0.005), (32, 0.005), (78, 0.0053), (128, 0.0053)]
    )
    def test_an_int8_row_is_off_by_half_a_percent_or_so_in_the_middle(self, width, limit):
        weight = with_outliers(10_000, width)
        decoded, _ = coded(weight, 8)
        assert row_errors(weight, decoded).median() <= limit

    def test_rows_with_outliers_cost_other_rows_nothing(self):
        weight = with_outliers(10_000, 16)
        plain = torch.ones(len(weight), dtype=torch.bool)
        plain[::500] = False
        beside, _ = coded(weight, 8)
        alone, _ = coded(weight[plain], 8)
        errors = [float(row_errors(weight[plain], x).mean()) for x in (beside[plain], alone)]
        # Scales are spread a little thinner where there are outliers.
        assert errors[0] == pytest.approx(errors[1], rel=0.05)

    @pytest.mark.parametrize(("width", "limit"), [(8, 0.061), (16, 0.074), (64, 0.076)])
    def test_int4_rows_come_out_better_than_by_their_largest_value(self, width, limit):
        weight = normal(5000, width)
        decoded, _ = coded(weight, 4)
        step = weight.abs().amax(1, keepdim=True) / 7
        plain = (weight / step).round() * step
        error = float(row_errors(weight, decoded).median())
        assert error <= limit
        assert error < 0.93 * float(row_errors(weight, plain).median())

    @pytest.mark.parametrize("bits", [8, 4])
    def test_tables_of_any_size_of_values_share_scales(self, bits):
        tables = [normal(300, 16) * size for size in (1e-6, 1.0, 1e3)]
        scales = scale_levels((each, bits) for each in tables)
        for weight in tables:
            decoded = decode(encode(weight, bits, scales), bits, scales, 16)
            alone, _ = coded(weight, bits)
            errors = [float(row_errors(weight, x).median()) for x in (decoded, alone)]
            assert errors[0] < 1.15 * errors[1]


class TestZeros:
    @pytest.mark.parametrize("bits", [8, 4])
    def test_a_row_of_zeros_and_single_zeros_stay(self, bits):
        weight = normal(50, 8)
        weight[7] = 0.0
        weight[:, 2] = 0.0
        decoded, _ = coded(weight, bits)
        assert torch.equal(decoded[7], torch.zeros(8))
        assert torch.equal(decoded[:, 2], torch.zeros(50))
        assert row_errors(weight, decoded).shape == (49,)

    def test_a_table_of_nothing_but_zeros_stays(self):
        decoded, _ = coded(torch.zeros(5, 4), 8)
        assert torch.equal(decoded, torch.zeros(5, 4))

    def test_the_tiniest_rows_beside_the_largest_become_no_garbage(self):
        weight = torch.tensor([[1e30, -1e29], [1e-30, 1e-31], [1e-42, 0.0]])
        decoded, _ = coded(weight, 8)
        assert torch.isfinite(decoded).all()
        assert decoded[0, 0] == pytest.approx(1e30, rel=0.01)
        assert decoded[1:].abs().max() <= 1e-20


class TestBytes:
    @pytest.mark.parametrize(
        ("bits", "width", "scales"),
        [(8, 16, 1), (8, 64, 1), (8, 77, 1), (8, 78, 2), (8, 128, 3), (4, 31, 1), (4, 32, 2)],
    )
    def test_a_scale_takes_one_byte_and_wide_rows_have_several(self, bits, width, scales):
        _, codes = coded(normal(100, width), bits)
        assert codes.codes.nbytes == 100 * ((width * bits + 7) // 8)
        assert codes.levels.nbytes == 100 * scales

    @pytest.mark.parametrize(("bits", "width", "smaller"), [(8, 39, 3.9), (4, 16, 7.0)])
    def test_from_some_width_on_tables_are_so_many_times_smaller(self, bits, width, smaller):
        for each in range(width, 300, 7):
            _, codes = coded(normal(2, each), bits)
            assert 8 * each / (codes.codes.nbytes + codes.levels.nbytes) >= smaller - 1e-9, each

    @pytest.mark.parametrize(("width", "packed"), [(16, 8), (7, 4), (1, 1)])
    def test_two_values_of_4_bits_share_a_byte(self, width, packed):
        decoded, codes = coded(normal(100, width), 4)
        assert codes.codes.nbytes + codes.levels.nbytes == 100 * (packed + 1)
        assert decoded.shape == (100, width)

    def test_chunks_of_a_large_table_are_coded_as_the_whole(self, monkeypatch):
        weight = normal(1000, 8)
        whole, _ = coded(weight, 8)
        monkeypatch.setattr("optimize.tables.codes._CHUNK", 8 * 77)
        assert torch.equal(coded(weight, 8)[0], whole)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**32))
def test_packing_loses_nothing(rows, width, seed):
    random = torch.Generator().manual_seed(seed)
    codes = torch.randint(-8, 8, (rows, width), dtype=torch.int8, generator=random)
    assert torch.equal(unpack(pack(codes))[:, :width], codes.float())
