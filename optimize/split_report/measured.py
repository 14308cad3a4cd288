"""Latencies that were measured, beside what was counted: from a results file, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.crossover import Crossover
from bench.latencies import percentile_label
from bench.tables import Table, load_text, number_text, percentile_text
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.measurement import Measurement
    from bench.results_file import Found
    from optimize.split_report.reading import SplitReport

_QUANTILES = (0.5, 0.99)
COMMAND = (
    "python -m bench crossover cpu-fp32-flat cpu-fp32 --at 1,50,200,500 --ranker RANKER "
    "--out measured.json"
)


def read_measured(path: Path, report: SplitReport) -> Found:
    """Read a results file of the ranker that is reported.

    Raises:
        UserError: The file cannot be read, or holds measurements of another ranker.
    """
    from bench.results_file import load_results

    found = load_results(path).found
    for each in found.measurements:
        ranker = each.target.get("ranker")
        if ranker != report.ranker:
            raise UserError(
                f"{path}: {each.name!r} is a measurement of the ranker {ranker!r}, not of "
                f"{report.ranker!r}: measure it with `{COMMAND}`"
            )
    return found


def measured_table(found: Found) -> Table:
    """Return a row for each load and target: p50, p99, and the gain against the first target."""
    unsure = _unsure(found)
    rows = []
    for load, runs in _by_load(found.measurements).items():
        first = runs[0].percentile(_QUANTILES[0])
        for place, run in enumerate(runs):
            middle = run.percentile(_QUANTILES[0])
            gain = ""
            if place and first is not None and middle is not None:
                doubt = " (cannot tell)" if load in unsure else ""
                gain = f"{number_text(first.value_us / middle.value_us)}{doubt}"
            void = " (void)" if run.void else ""
            rows.append(
                (
                    load if not place else "",
                    f"{run.name}{void}",
                    *(percentile_text(run.percentile(q)) for q in _QUANTILES),
                    gain,
                )
            )
    labels = [f"{percentile_label(q)}, ms" for q in _QUANTILES]
    return Table(
        title="Measured response times",
        columns=("load", "target", *labels, f"times faster at {percentile_label(_QUANTILES[0])}"),
        rows=tuple(rows),
        note="With 95 % intervals. -: too few independent requests for that one. Cannot tell: no "
        "target was shown to be slower.",
    )


def remarks(found: Found, report: SplitReport) -> Iterator[str]:
    """Yield whether it was this artifact that was measured, and which target wins where."""
    keys = {each.target.get("key") for each in found.measurements}
    if report.served in keys:
        yield "Measured on this very artifact."
    else:
        yield (
            "Measured on another build of this ranker: none of the targets has this artifact's "
            "content."
        )
    if isinstance(found, Crossover):
        yield from (f"{each}." for each in found.texts)


def measured_json(found: Found) -> list[dict[str, Any]]:
    """Return percentiles as JSON-ready data, in microseconds; None where they are not known."""
    data = []
    for each in found.measurements:
        percentiles = {percentile_label(q): each.percentile(q) for q in _QUANTILES}
        data.append(
            {
                "target": each.name,
                "load": load_text(each),
                "void": list(each.void),
                **{
                    f"{label}_us": None if x is None else [x.low_us, x.value_us, x.high_us]
                    for label, x in percentiles.items()
                },
            }
        )
    return data


def _by_load(runs: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {}
    for each in runs:
        found.setdefault(load_text(each), []).append(each)
    return found


def _unsure(found: Found) -> set[str]:
    """Return the loads under which no target was shown to be slower at the middle."""
    if not isinstance(found, Crossover):
        return set()
    return {
        load_text(cell.measurements[0])
        for cell in found.cells
        if (winner := cell.winner(_QUANTILES[0])) is None or not winner.sure
    }
