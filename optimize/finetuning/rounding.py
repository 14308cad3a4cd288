"""Numbers as they will be in few bits, with gradients, so that a program can learn to bear it.

Forward, a layer's input and matrix are cut and rounded as the quantizer does; backward, rounding
is taken for no change (straight-through), by torch's own operators for it. Where an input is cut is
learnt (PACT: Choi et al., arXiv:1805.06085). Sources: Jacob et al., arXiv:1712.05877; the limits to
start from are those of least squared error, as in Banner et al., arXiv:1810.05723.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_SHARES = tuple(x / 32 for x in range(4, 33))  # of all that was seen, which are tried as limits
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Bits:
    """The form that layers are taught.

    Attributes:
        weights: Bits of a matrix's values, symmetric, with a scale for each output.
        activations: Bits of an input's values, with one scale.
        symmetric: Whether inputs are signed around zero; else zero is any whole number.
    """

    weights: int = 8
    activations: int = 8
    symmetric: bool = False


class RoundedMatrix(nn.Module):
    """Rounds a matrix to whole numbers of a scale for each output.

    Args:
        bits: Of a value.
        outputs: The dimension of outputs.
    """

    def __init__(self, bits: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        # onnxruntime.quantization has 7 bits run from -64 to 64.
        self.most = 64 if bits == 7 else 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        """Return the matrix as it will be read."""
        largest = weight.detach().abs().amax(1 - self.outputs)
        scales = (largest / self.most).clamp(min=_TINY)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weight, scales, zeros, self.outputs, -self.most, self.most
        )


class RoundedInput(nn.Module):
    """Cuts a layer's input to limits that are learnt, and rounds it.

    Args:
        bits: See `Bits`.
        values: What the input was seen to be, ``[values]``, to take the first limits from.
    """

    def __init__(self, bits: Bits, values: Tensor) -> None:
        super().__init__()
        half: int = 2 ** (bits.activations - 1)
        self.first: int = 1 - half if bits.symmetric else 0
        self.last: int = half - 1 if bits.symmetric else 2 * half - 1
        self.symmetric = bits.symmetric
        self.register_buffer("start", self._best(values), persistent=False)
        # Learnt as logarithms of shares, which suits inputs of every size.
        self.share = nn.Parameter(torch.zeros(2))

    def limits(self) -> Tensor:
        """Return the least and the largest value that is not cut, ``[2]``."""
        start: Tensor = self.start  # type: ignore[assignment]
        if self.symmetric:
            return start * self.share[1].exp()
        return start * self.share.exp()

    def forward(self, x: Tensor) -> Tensor:
        """Return an input as a layer will read it, in its own shape."""
        low, high = self.limits()
        return self._rounded(torch.minimum(torch.maximum(x, low), high), low, high)

    def _rounded(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        span = (high - low).detach().clamp(min=_TINY)
        scale = span / (self.last - self.first)
        zero = (self.first - low.detach() / scale).round().clamp(self.first, self.last)
        if self.symmetric:
            zero = torch.zeros_like(zero)
        return torch.fake_quantize_per_tensor_affine(
            x, scale, zero.to(torch.int32), self.first, self.last
        )

    def _best(self, values: Tensor) -> Tensor:
        """Return the limits whose rounded values are nearest, by squared error: ``[2]``."""
        ends = torch.stack([values.min().clamp(max=0.0), values.max().clamp(min=0.0)])
        if self.symmetric:
            ends = ends.abs().max() * torch.tensor([-1.0, 1.0])
        errors = []
        for share in _SHARES:
            low, high = share * ends
            rounded = self._rounded(values.clamp(low, high), low, high)
            errors.append(float(((rounded - values) ** 2).mean()))
        return ends * _SHARES[errors.index(min(errors))]
