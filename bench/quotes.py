"""A single figure of a results file as text, for a sentence of a README."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.capacity_curve import Capacity
from bench.compare import Comparison
from bench.demo_report import Demo
from bench.latencies import QUANTILES, percentile_label
from bench.tables import ms_text, number_text

if TYPE_CHECKING:
    from bench.measurement import Measurement
    from bench.results_file import Found


def quote(found: Found, target: str, what: str) -> str:
    """Return such as ``0.888 ms``.

    Args:
        found: What a results file holds.
        target: The name of a target in it; the first of that name.
        what: ``p50``, ``p90``, ``p99``, ``p99.9``, ``requests/s`` or ``candidates/s``; of a
            comparison or a demo also ``ratio p50`` and ``ratio p99``; of a capacity ``capacity``.

    Raises:
        LookupError: There is no such target or quantity, there were too few requests for it, or
            what it rests on is void.
    """
    if what == "capacity":
        text = _capacity(found, target)
    elif what.startswith("ratio "):
        text = _ratio(found, target, what.removeprefix("ratio "))
    else:
        text = _of_measurement(found, target, what)
    if text is None:
        raise LookupError(f"there is no {what} of {target!r}")
    return text


def _of_measurement(found: Found, target: str, what: str) -> str | None:
    measurement = next((each for each in found.measurements if each.name == target), None)
    if measurement is None:
        return None
    _check(measurement)
    if what == "requests/s":
        return f"{number_text(measurement.requests_per_s)} requests/s"
    if what == "candidates/s":
        return f"{number_text(measurement.candidates_per_s)} candidates/s"
    quantile = {percentile_label(each): each for each in QUANTILES}.get(what)
    percentile = None if quantile is None else measurement.percentile(quantile)
    return None if percentile is None else f"{ms_text(percentile.value_us)} ms"


def _ratio(found: Found, target: str, label: str) -> str | None:
    comparison = found.comparison if isinstance(found, Demo) else found
    if not isinstance(comparison, Comparison):
        return None
    for each in comparison.ratios:
        if each.target == target and label == percentile_label(each.quantile):
            for measurement in comparison.measurements:
                if measurement.name in {each.target, each.baseline}:
                    _check(measurement)
            return f"{each.value:.2f}"
    return None


def _capacity(found: Found, target: str) -> str | None:
    if not isinstance(found, Capacity):
        return None
    for each in found.points:
        if each.rate_per_s == found.rate_per_s and each.measurement.name == target:
            _check(each.measurement)
            return f"{number_text(each.rate_per_s)} requests/s"
    return None


def _check(measurement: Measurement) -> None:
    if measurement.void:
        raise LookupError(
            f"{measurement.name!r} is void: measure it again, or quote it nowhere "
            f"({measurement.void[0]})"
        )
