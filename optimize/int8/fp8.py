"""Floats of 8 bits (E4M3: 4 of exponent, 3 of mantissa, up to 448) and their scales.

They step by an eighth of a power of two, so that small values keep as many digits as large ones.
Sources: Micikevicius et al., FP8 Formats for Deep Learning, arXiv:2209.05433;
https://onnx.ai/onnx/technical/float8.html (FLOAT8E4M3FN, saturating).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rankers.requests import Array

LARGEST = 448.0
# The smallest float16 that has all its digits: half_precision leaves layers in float32 whose
# scales lie below. A float needs no scale that exact, so small ones are raised to it.
_LEAST_SCALE = 2.0**-14
_MOST_SCALE = 65504.0


def fp8_scales(largest: Any) -> Array:
    """Return scales by which the largest magnitudes come to lie on 448.

    They are numbers that float16 holds, so that half_precision changes none: rounded to its 11
    bits, and 2^-14 for magnitudes between that and 448 times that, which then come to lie lower.

    Args:
        largest: Magnitudes, of any shape; the scale for 0 is 1.

    Returns:
        float32 of the same shape.
    """
    largest = np.asarray(largest, np.float64)
    scales = largest / LARGEST
    raised = np.where(largest >= _LEAST_SCALE, np.maximum(scales, _LEAST_SCALE), scales)
    held = (raised >= _LEAST_SCALE) & (raised <= _MOST_SCALE)
    halves = np.where(held, raised, 1).astype(np.float16).astype(np.float64)
    found: Array = np.where(largest > 0, np.where(held, halves, raised), 1).astype(np.float32)
    return found


def fp8_codes(values: Array, scales: Array | np.float32) -> Array:
    """Return values as QuantizeLinear makes them: divided, cut at 448, rounded to even.

    Args:
        values: Floats.
        scales: float32; they broadcast.

    Returns:
        ``ml_dtypes.float8_e4m3fn`` of the values' shape.
    """
    import ml_dtypes

    found: Array = np.clip(np.asarray(values, np.float32) / scales, -LARGEST, LARGEST).astype(
        ml_dtypes.float8_e4m3fn
    )
    return found


def is_fp8(values: Array) -> bool:
    """Whether an array holds floats of 8 bits."""
    import ml_dtypes

    return bool(values.dtype == ml_dtypes.float8_e4m3fn)
