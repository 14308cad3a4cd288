"""What the demo shows: one table, a summary as JSON, a page with a plot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.html_report import html_report
from bench.measurement import save_measurements
from bench.tables import Table, latency_table, ms_text, number_text, ratio_table
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.compare import Comparison
    from bench.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the demo's table.

    Attributes:
        name: What it is.
        model_bytes: Of the model's files or parameters; None where it is that of the line above.
        auc: On the evaluation requests; None where their labels are all alike.
        auc_delta: Difference to the original's with its 95 % interval: delta, low, high.
        measurement: Its latency.
    """

    name: str
    model_bytes: int | None
    auc: float | None
    auc_delta: tuple[float, float, float] | None
    measurement: Measurement

    def to_json(self) -> dict[str, Any]:
        """Return the variant as JSON-ready data; a percentile of too few requests is None."""
        values = {one.label: one.value_us for one in self.measurement.response.percentiles()}
        return {
            "name": self.name,
            "model_bytes": self.model_bytes,
            "auc": self.auc,
            "auc_delta": self.auc_delta,
            "p50_us": values.get("p50"),
            "p99_us": values.get("p99"),
            "requests_per_s": self.measurement.requests_per_s,
            "candidates_per_s": self.measurement.candidates_per_s,
            "void": list(self.measurement.void),
        }


def demo_table(summary: dict[str, Any]) -> Table:
    """Return the table of variants of a summary."""
    rows = []
    for each in summary["variants"]:
        size = each["model_bytes"]
        rows.append(
            (
                f"{each['name']} (void)" if each["void"] else each["name"],
                "" if size is None else f"{size / 1e6:.1f} MB",
                auc_text(each["auc"]) + _change(each["auc_delta"]),
                *("-" if each[name] is None else ms_text(each[name]) for name in _PERCENTILES),
                number_text(each["candidates_per_s"]),
            )
        )
    evaluation = summary["evaluation"]
    best = summary["best_auc"]
    return Table(
        title=f"{summary['ranker']}: {evaluation['rows']:,} held-out rows in "
        f"{evaluation['requests']:,} requests"
        + ("" if best is None else f"; best reachable AUC {best:.4f}"),
        columns=("variant", "size", "AUC (difference, 95 %)", "p50, ms", "p99, ms", "candidates/s"),
        rows=tuple(rows),
        note="Closed loop, one request at a time; with a rate, an open loop of Poisson arrivals. "
        "Times are of this machine: ratios between rows mean more than any one of them.",
    )


def write_demo(
    build: Path,
    summary: dict[str, Any],
    measurements: Sequence[Measurement],
    comparison: Comparison,
) -> None:
    """Write ``measurements.json``, ``report.html`` and last ``summary.json``."""
    save_measurements(measurements, build / "measurements.json")
    page = html_report(
        f"rankserve demo: {summary['ranker']}",
        measurements,
        [demo_table(summary), latency_table(measurements), ratio_table(comparison.ratios)],
    )
    write_atomically(build / "report.html", page)
    write_atomically(build / "summary.json", json.dumps(summary, indent=2) + "\n")


def auc_text(auc: float | None) -> str:
    """Return an AUC with four digits, or ``-`` where it is not defined."""
    return "-" if auc is None else f"{auc:.4f}"


def _change(delta: tuple[float, float, float] | None) -> str:
    if delta is None:
        return ""
    return f" ({delta[0]:+.1g}, {delta[1]:+.1g} to {delta[2]:+.1g})"


_PERCENTILES = ("p50_us", "p99_us")
