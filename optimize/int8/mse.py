"""Ranges whose rounded and cut values are nearest to what they were, by squared error.

A wide range rounds all values coarsely, a narrow one cuts the largest. The library's calibrators do
not search for the best between. Sources: Banner et al., arXiv:1810.05723; Nagel et al., A White
Paper on Neural Network Quantization, arXiv:2106.08295, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.int8.observing import observed
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from optimize.int8.numbers import Numbers
    from rankers.requests import Array, Columns

# Of all that was seen, which are tried. The widest comes first: of equal ones it is taken.
SHARES = tuple(x / 64 for x in range(64, 0, -1))
_BINS = 1 << 14


@dataclass(frozen=True, slots=True)
class SearchedRange:
    """What a search found for an activation.

    Attributes:
        low: The least value that is not cut, at most 0.
        high: The largest, at least 0.
        share: Of the range from the least to the largest value that was seen.
        error: The mean squared error of rounding and cutting.
        error_minmax: That of the whole range.
    """

    low: float
    high: float
    share: float
    error: float
    error_minmax: float


def mse_ranges(
    model: Any,
    names: Collection[str],
    inputs: Sequence[Columns],
    numbers: Numbers,
    *,
    large: bool = False,
) -> dict[str, SearchedRange]:
    """Search the range of least squared error for activations.

    Requests pass through the graph twice, one by one: for the extremes, and for a histogram between
    them, so that memory does not grow with requests.

    Args:
        model: An ``onnx.ModelProto`` with its weights; it stays as it is.
        names: Of float32 activations.
        inputs: Of calibration requests.
        numbers: What they are rounded to; of symmetric ones both ends are equally far from 0.
        large: Whether weights need a file beside the graph.

    Returns:
        By name; without those that were 0 for all requests.

    Raises:
        UserError: An activation is infinite or not a number.
    """
    ends = seen_ends(model, names, inputs, symmetric=numbers.symmetric, large=large)
    seen = {name: _Histogram(*each) for name, each in ends.items()}
    for values in observed(model, seen, inputs, large=large) if seen else ():
        for name, histogram in seen.items():
            histogram.add(values[name])
    return {name: _searched(histogram, ends[name], numbers) for name, histogram in seen.items()}


def seen_ends(
    model: Any,
    names: Collection[str],
    inputs: Sequence[Columns],
    *,
    symmetric: bool,
    large: bool = False,
) -> dict[str, tuple[float, float]]:
    """Return the least and the largest value that activations had, 0 between them.

    Args and what is raised: as of `mse_ranges`; ``symmetric`` sets both equally far from 0.
    """
    found: dict[str, tuple[float, float]] = {}
    for values in observed(model, {*names}, inputs, large=large) if names else ():
        for name, value in values.items():
            low, high = found.get(name, (0.0, 0.0))
            found[name] = (min(low, float(value.min())), max(high, float(value.max())))
            if not np.isfinite(value).all():
                raise UserError(
                    f"the activation {name!r} is infinite or not a number for a calibration "
                    "request: exclude the layer that reads it"
                )
    if symmetric:
        found = {name: (-max(-low, high), max(-low, high)) for name, (low, high) in found.items()}
    return {name: (low, high) for name, (low, high) in found.items() if low < high}


def described(ranges: Mapping[str, SearchedRange]) -> str:
    """Say in a few words of how many activations the range is narrower than what was seen."""
    narrower = [each.share for each in ranges.values() if each.share < 1]
    to = f", to {min(narrower):.0%} at least" if narrower else ""
    return f"{len(narrower)} of {len(ranges)} narrower than min-max{to}"


class _Histogram:
    """Counts, sums and sums of squares of values, by bin.

    With the sums the error of a bin whose values all round to one number is exact, zeros included.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.width = low, (high - low) / _BINS
        self.count = np.zeros(_BINS)
        self.sums = np.zeros(_BINS)
        self.squares = np.zeros(_BINS)

    def add(self, values: Array) -> None:
        flat = values.reshape(-1).astype(np.float64)
        places = np.clip((flat - self.low) / self.width, 0, _BINS - 1).astype(np.int64)
        self.count += np.bincount(places, minlength=_BINS)
        self.sums += np.bincount(places, flat, _BINS)
        self.squares += np.bincount(places, flat * flat, _BINS)

    def error(self, numbers: Numbers, low: float, high: float) -> float:
        """Return the mean squared error of values rounded and cut to a range."""
        held = self.count > 0
        count, sums = self.count[held], self.sums[held]
        rounded = numbers.rounded(sums / count, low, high)
        errors = self.squares[held] - 2 * rounded * sums + count * rounded * rounded
        return float(max(errors.sum(), 0.0) / count.sum())


def _searched(histogram: _Histogram, ends: tuple[float, float], numbers: Numbers) -> SearchedRange:
    low, high = ends
    errors = [histogram.error(numbers, share * low, share * high) for share in SHARES]
    best = errors.index(min(errors))
    share = SHARES[best]
    return SearchedRange(share * low, share * high, share, errors[best], errors[0])
