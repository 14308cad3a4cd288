"""What a rewrite is expected to cost: a rough clock that says whether it is worth doing.

Products count by multiply-adds, all else by the bytes that an operator writes, and each operator
takes some time of its own. The rates are those of ONNX Runtime on two AVX-512 cores, in round
figures; only which of two forms is cheaper is asked of them, and seldom is it close.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optimize.flat_graph import Shape, Side

_MULTIPLY_ADDS_PER_S = 5e10
_BYTES_PER_S = 1e10
_OPERATOR_S = 3e-6
_BYTES = 4  # of a float


@dataclass(frozen=True, slots=True)
class Request:
    """The request that costs are reckoned for: one user.

    Attributes:
        candidates: N.
    """

    candidates: int = 200

    @property
    def text(self) -> str:
        """Such as ``200 candidates``."""
        return f"{self.candidates:,} candidate{'s' * (self.candidates != 1)}"

    def elements(self, shape: Shape, side: Side) -> int:
        """How many elements a value has, computed once for the user or for each candidate."""
        rows = 1 if side in {"user", "none"} else self.candidates
        return prod(-size * rows if size < 0 else size for size in shape)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of some operators.

    Attributes:
        multiply_adds: Of matrix products.
        elements: Written.
        operators: How many.
    """

    multiply_adds: float = 0
    elements: float = 0
    operators: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.multiply_adds + other.multiply_adds,
            self.elements + other.elements,
            self.operators + other.operators,
        )

    @property
    def seconds(self) -> float:
        """How long they are expected to take."""
        return (
            self.multiply_adds / _MULTIPLY_ADDS_PER_S
            + self.elements * _BYTES / _BYTES_PER_S
            + self.operators * _OPERATOR_S
        )


def product(rows: int, inputs: int, outputs: int) -> Cost:
    """Return the cost of a matrix product ``[rows, inputs] x [inputs, outputs]``."""
    return Cost(rows * inputs * outputs, rows * outputs, 1)


def elementwise(elements: int) -> Cost:
    """Return the cost of an operator that writes so many elements."""
    return Cost(0, elements, 1)
