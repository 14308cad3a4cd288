"""What a layer's input is rounded to: the numbers of a type, between the ends of a range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optimize.int8.fp8 import fp8_codes, fp8_scales

if TYPE_CHECKING:
    from optimize.int8.form import Activations
    from rankers.requests import Array


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a type.

    Attributes:
        type: ``uint8``: whole numbers with a zero point. ``int8``: whole numbers around zero.
            ``fp8``: floats of 8 bits, E4M3.
    """

    type: Activations

    @property
    def symmetric(self) -> bool:
        """Whether a range reaches equally far to both sides of zero."""
        return self.type != "uint8"

    def rounded(self, values: Array, low: float, high: float) -> Array:
        """Return values as QuantizeLinear and DequantizeLinear leave them.

        Args:
            values: Of any shape.
            low: The least that is not cut, at most 0.
            high: The largest, at least 0, above ``low``.

        Returns:
            float64 of the same shape.
        """
        if self.type == "fp8":
            scale = float(fp8_scales(max(-low, high)))
            codes = fp8_codes(values, np.float32(scale)).astype(np.float64)
        elif self.type == "uint8":
            scale = (high - low) / 255
            zero = np.clip(np.round(-low / scale), 0, 255)
            codes = np.clip(np.round(values / scale) + zero, 0, 255) - zero
        else:
            scale = max(-low, high) / 127
            codes = np.clip(np.round(values / scale), -128, 127)
        found: Array = codes * scale
        return found
