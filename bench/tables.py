"""Measurements as rows of text: the same figures in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.compare import WORTH_FINDING
from bench.latencies import percentile_label, sample_floor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.capacity_curve import Capacity
    from bench.compare import Ratio
    from bench.environment import Environment
    from bench.latencies import Percentile
    from bench.measurement import Measurement

PRINTED_QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        title: Above it.
        columns: Their headings, with units. The first column is text, the others are figures.
        rows: One text for each column.
        note: Below it; may be empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def latency_table(measurements: Sequence[Measurement], title: str = "Latency") -> Table:
    """Return one row for each measurement: percentiles with intervals, and throughput.

    A load that all have in common is said in the title, else in a column.
    """
    percentiles = tuple(f"{percentile_label(each)}, ms" for each in PRINTED_QUANTILES)
    loads = {load_text(each) for each in measurements}
    common = len(loads) == 1
    return Table(
        title=f"{title}: {next(iter(loads))}" if common else title,
        columns=(
            "target",
            *(() if common else ("load",)),
            *percentiles,
            "requests/s",
            "candidates/s",
        ),
        rows=tuple(
            (
                f"{each.name} (void)" if each.void else each.name,
                *(() if common else (load_text(each),)),
                *(percentile_text(each.percentile(quantile)) for quantile in PRINTED_QUANTILES),
                number_text(each.requests_per_s),
                number_text(each.candidates_per_s),
            )
            for each in measurements
        ),
        note="Response times with 95 % intervals. -: too few independent requests for that one.",
    )


def ratio_table(ratios: Sequence[Ratio]) -> Table:
    """Return one row for each ratio: its interval, the difference's, and what follows."""
    joint = f"{ratios[0].confidence * 100:g} %" if ratios else ""
    return Table(
        title=f"Compared with {ratios[0].baseline}" if ratios else "Compared",
        columns=("target", "", "ratio", "difference, ms", "verdict"),
        rows=tuple(
            (
                each.target,
                percentile_label(each.quantile),
                _with_interval(
                    f"{each.value:.3f}", *_texts((each.low, each.high), "{:.3f}".format)
                ),
                _with_interval(
                    ms_text(each.difference_us),
                    *_texts((each.difference_low_us, each.difference_high_us), ms_text),
                ),
                each.verdict,
            )
            for each in ratios
        ),
        note=f"Below 1 is faster. All intervals hold together at {joint} confidence; drift between "
        "rounds is taken out.",
    )


def capacity_table(capacity: Capacity) -> Table:
    """Return one row for each rate that was tried, ascending."""
    first = capacity.points[0].measurement if capacity.points else None
    return Table(
        title=f"Capacity of {first.name}: {first.workload['name']}" if first else "Capacity",
        columns=("requests/s", "p50, ms", "p99, ms", "goodput/s", capacity.slo.text),
        rows=tuple(
            (
                f"{number_text(each.rate_per_s)}{' (void)' if each.measurement.void else ''}",
                *(percentile_text(each.measurement.percentile(q)) for q in (0.5, 0.99)),
                number_text(each.goodput_per_s),
                each.verdict.answer,
            )
            for each in capacity.points
        ),
        note="Verdicts at 99 % confidence. Goodput: answered within the bound. -: too few "
        "independent requests for that one.",
    )


def undecided_texts(ratios: Sequence[Ratio]) -> Iterator[str]:
    """Yield what would tell, for the ratios that cannot and whose intervals are wide."""
    for each in ratios:
        if each.verdict == "cannot tell" and each.rounds_needed is not None:
            times = each.rounds_needed / each.rounds
            yield (
                f"{each.target}, {percentile_label(each.quantile)}: cannot tell; to find a "
                f"difference of {WORTH_FINDING:.0%} it takes about {each.rounds_needed:,} rounds "
                f"like these ({number_text(times)} times the requests), or a quieter machine"
            )


def _texts(
    ends: tuple[float | None, float | None], text: Callable[[float], str]
) -> tuple[str | None, str | None]:
    low, high = (None if end is None else text(end) for end in ends)
    return low, high


def _with_interval(value: str, low: str | None, high: str | None) -> str:
    return value if low is None or high is None else f"{value} ({low} to {high})"


def percentile_text(found: Percentile | None) -> str:
    """Return such as ``1.38 (1.32-1.44)`` in milliseconds, or ``-`` for none."""
    if found is None:
        return "-"
    value, low, high = (ms_text(each) for each in (found.value_us, found.low_us, found.high_us))
    return f"{value} ({low}-{high})"


def cost_texts(measurement: Measurement) -> Iterator[str]:
    """Yield what a request cost beside time: CPU of the caller's processes, bytes on the wire."""
    cpu_us, size = measurement.cpu_us_per_request, measurement.bytes_per_request
    if cpu_us is not None:
        who = "caller and target" if size is None else "caller"
        polling = ", waiting for arrivals included" if measurement.load["mode"] == "open" else ""
        yield f"CPU: {ms_text(cpu_us)} ms a request ({who}{polling})"
    if size is not None:
        yield f"wire: {number_text(size / 1e3)} kB of tensors a request, there and back"


def unprinted_texts(measurement: Measurement) -> Iterator[str]:
    """Yield why a percentile is not printed although there are requests enough, and what to do."""
    for quantile in PRINTED_QUANTILES:
        count, floor = measurement.response.count, sample_floor(quantile)
        if count < floor or measurement.percentile(quantile) is not None:
            continue
        worth = max(1.0, measurement.worth(quantile))
        yield (
            f"{percentile_label(quantile)} is not known: {count:,} requests, neighbours alike, are "
            f"worth {worth:,.0f} independent ones; send about "
            f"{number_text(count * 1.2 * floor / worth)}"
        )


def ms_text(microseconds: float) -> str:
    """Return milliseconds with three significant digits."""
    return number_text(microseconds / 1e3)


def number_text(value: float) -> str:
    """Return three significant digits, never in powers of ten: ``0.0123``, ``1.38``, ``12,300``."""
    if not value:
        return "0"
    rounded = float(f"{value:.3g}")
    decimals = max(0, 2 - int(f"{rounded:e}".partition("e")[2]))
    return f"{rounded:,.{decimals}f}"


def names_apart(measurements: Sequence[Measurement]) -> list[str]:
    """Return a name for each measurement, with its load where a name comes twice."""
    names = [each.name for each in measurements]
    return [
        each.name if names.count(each.name) == 1 else f"{each.name}, {load_text(each)}"
        for each in measurements
    ]


def load_text(measurement: Measurement) -> str:
    """Return such as ``open, Poisson 200/s; 128 candidates``."""
    load, workload = measurement.load, measurement.workload["name"]
    if load["mode"] == "closed":
        return f"closed, {load['concurrency']} at once; {workload}"
    pattern = str(load["pattern"]).capitalize()
    return f"open, {pattern} {load['rate_per_s']:,.4g}/s; {workload}"


def environment_text(environment: Environment) -> str:
    """Return a machine and its libraries in one line."""
    parts = [
        environment.cpu,
        f"{environment.physical_cores} cores",
        f"{environment.logical_cores} threads",
        f"{environment.usable_cores} usable",
        f"{environment.memory_bytes / 2**30:.0f} GiB",
        " ".join(environment.isa),
        *(f"{gpu['name']}, driver {gpu['driver_version']}" for gpu in environment.gpu),
        environment.kernel,
        f"Python {environment.python}",
        ", ".join(f"{name} {version}" for name, version in environment.versions.items()),
    ]
    if environment.cpu_limit is not None:
        parts.insert(4, f"limited to {environment.cpu_limit:g} cores")
    if environment.governor:
        parts.insert(4, f"governor {environment.governor}")
    return "; ".join(part for part in parts if part)
