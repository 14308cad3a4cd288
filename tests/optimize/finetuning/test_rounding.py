"""Numbers as they will be in few bits: the grid that they are on, and gradients in spite of it."""

from __future__ import annotations

import pytest
import torch

from optimize.finetuning.rounding import Bits, RoundedInput, RoundedMatrix


@pytest.fixture
def matrix():
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


class TestMatrix:
    @pytest.mark.parametrize("outputs", [0, 1])
    @pytest.mark.parametrize(("bits", "most"), [(8, 127), (7, 64), (4, 7)])
    def test_each_output_has_a_scale_by_which_all_its_values_are_whole(
        self, matrix, outputs, bits, most
    ):
        rounded = RoundedMatrix(bits, outputs)(matrix)
        largest = matrix.detach().abs().amax(1 - outputs, keepdim=True)
        scales = largest / most
        whole = rounded / scales
        torch.testing.assert_close(whole, whole.round(), atol=1e-4, rtol=0)
        assert whole.abs().amax(1 - outputs).round().eq(most).all()
        assert (rounded - matrix).abs().le(0.5001 * scales).all()

    def test_gradients_pass_as_if_nothing_was_rounded(self, matrix):
        RoundedMatrix(8, 0)(matrix).sum().backward()
        torch.testing.assert_close(matrix.grad, torch.ones_like(matrix))


class TestInput:
    def test_what_is_within_the_limits_is_rounded_and_what_is_beyond_is_cut(self):
        values = torch.linspace(-1, 3, 4001)
        rounded = RoundedInput(Bits(), values)
        low, high = rounded.limits().tolist()
        scale = (high - low) / 255
        made = rounded(torch.tensor([-100.0, 0.0, 0.5, 100.0])).tolist()
        assert made[0] == pytest.approx(low, abs=scale)
        assert made[1] == 0
        assert made[2] == pytest.approx(0.5, abs=scale / 2 + 1e-6)
        assert made[3] == pytest.approx(high, abs=scale)

    def test_symmetric_limits_are_alike_on_both_sides(self):
        rounded = RoundedInput(Bits(symmetric=True), torch.linspace(-1, 3, 401))
        low, high = rounded.limits().tolist()
        assert low == -high

    def test_few_bits_begin_by_cutting_outliers_and_many_do_not(self):
        values = torch.cat([torch.randn(5000, generator=torch.Generator().manual_seed(0)).abs(),
                            torch.tensor([8.0])])  # fmt: skip
        limits = {bits: RoundedInput(Bits(8, bits), values).limits()[1] for bits in (2, 8)}
        assert limits[2] < 4
        assert limits[8] > 6

    def test_the_limits_learn_from_what_they_cut(self):
        rounded = RoundedInput(Bits(), torch.linspace(0, 1, 101))
        rounded(torch.tensor([0.2, 5.0])).sum().backward()
        assert rounded.share.grad[1] > 0
