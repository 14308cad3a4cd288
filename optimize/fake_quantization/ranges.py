"""The magnitudes that codes of 8 bits reach to."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Ranges = Literal["minmax", "percentile"]
# What fp16 and bf16 both hold exactly: 8 significant bits, between these. Torch-TensorRT's autocast
# narrows ranges with all else, and would change others, to 0 or to infinity at worst.
LEAST, GREATEST = 2.0**-14, 65280.0
_SIGNIFICANT = 2.0**8


def observed_range(values: Tensor, ranges: Ranges, percentile: float) -> Tensor:
    """Return the magnitude that covers what was seen, ``[]``, by `held_exactly`.

    Args:
        values: ``[values]``, float32.
        ranges: ``minmax`` covers all, ``percentile`` cuts what lies beyond.
        percentile: Of magnitudes, in percent.
    """
    sizes = values.abs()
    if ranges == "percentile":
        place = min(len(sizes), max(1, -int(-len(sizes) * percentile // 100)))
        return held_exactly(sizes.kthvalue(place).values)
    return held_exactly(sizes.max())


def matrix_range(matrix: Tensor, *, per_output: bool) -> Tensor:
    """Return a matrix's magnitudes: ``[outputs, 1]`` of ``[outputs, inputs]``, or ``[]``."""
    sizes = matrix.detach().abs().to(torch.float32)
    return held_exactly(sizes.amax(1, keepdim=True) if per_output else sizes.max())


def held_exactly(amax: Tensor) -> Tensor:
    """Return the next magnitudes upward that fp16 and bf16 both hold exactly, float32."""
    mantissa, exponent = torch.frexp(amax.to(torch.float32).clamp(LEAST, GREATEST))
    return torch.ldexp((mantissa * _SIGNIFICANT).ceil() / _SIGNIFICANT, exponent)
