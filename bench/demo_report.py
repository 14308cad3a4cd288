"""What the demo found, and its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.compare import Comparison
from bench.measurement import Measurement
from bench.tables import Table, ms_text, number_text


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the demo's table.

    Attributes:
        name: What it is.
        model_bytes: Of the model's files or parameters; None where it is that of the line above.
        auc: On the evaluation requests; None where their labels are all alike.
        auc_delta: Difference to the original's with its 95 % interval: delta, low, high; all 0
            where scores moved by rounding alone.
        measurement: Its latency.
    """

    name: str
    model_bytes: int | None
    auc: float | None
    auc_delta: tuple[float, float, float] | None
    measurement: Measurement

    def to_json(self) -> dict[str, Any]:
        """Return the variant as JSON-ready data; a percentile of too few requests is None."""
        p50, p99 = (self.measurement.percentile(quantile) for quantile in (0.5, 0.99))
        return {
            "name": self.name,
            "model_bytes": self.model_bytes,
            "auc": self.auc,
            "auc_delta": self.auc_delta,
            "p50_us": None if p50 is None else p50.value_us,
            "p99_us": None if p99 is None else p99.value_us,
            "requests_per_s": self.measurement.requests_per_s,
            "candidates_per_s": self.measurement.candidates_per_s,
            "void": list(self.measurement.void),
        }


@dataclass(frozen=True, slots=True)
class Demo:
    """All that the demo found.

    Attributes:
        about: The ranker, its data, the recipe's run and what went over the wire, as JSON-ready
            data.
        comparison: The variants, measured in turn.
        under_load: The served one under Poisson arrivals.
        variants: Quality and latency of all of them.
    """

    about: dict[str, Any]
    comparison: Comparison
    under_load: Measurement
    variants: tuple[Variant, ...]

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """One for each variant."""
        return (*self.comparison.measurements, self.under_load)

    def summary(self) -> dict[str, Any]:
        """Return every number of the table as JSON-ready data, without the histograms."""
        return self.about | {"variants": [each.to_json() for each in self.variants]}

    def to_json(self) -> dict[str, Any]:
        """Return it whole as JSON-ready data."""
        return {
            "summary": self.summary(),
            "comparison": self.comparison.to_json(),
            "under_load": self.under_load.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Demo:
        """Read what `to_json` wrote; latencies of the variants are those of the measurements."""
        comparison = Comparison.from_json(data["comparison"])
        under_load = Measurement.from_json(data["under_load"])
        about = dict(data["summary"])
        variants = tuple(
            Variant(
                each["name"],
                each["model_bytes"],
                each["auc"],
                None if each["auc_delta"] is None else tuple(each["auc_delta"]),
                measurement,
            )
            for each, measurement in zip(
                about.pop("variants"), (*comparison.measurements, under_load), strict=True
            )
        )
        return cls(about, comparison, under_load, variants)


def demo_table(demo: Demo) -> Table:
    """Return the table of variants."""
    evaluation, best = demo.about["evaluation"], demo.about["best_auc"]
    return Table(
        title=f"{demo.about['ranker']}: {evaluation['rows']:,} held-out rows in "
        f"{evaluation['requests']:,} requests"
        + ("" if best is None else f"; best reachable AUC {best:.4f}"),
        columns=("variant", "size", "AUC (difference, 95 %)", "p50, ms", "p99, ms", "candidates/s"),
        rows=tuple(_row(each) for each in demo.variants),
        note="Closed loop, one request at a time; with a rate, an open loop of Poisson arrivals. "
        "Times are of this machine: ratios between rows mean more than any one of them."
        + "".join(f"\n{each}" for each in demo.about.get("not_measured", ())),
    )


def _row(variant: Variant) -> tuple[str, ...]:
    found = (variant.measurement.percentile(quantile) for quantile in (0.5, 0.99))
    return (
        f"{variant.name} (void)" if variant.measurement.void else variant.name,
        size_text(variant.model_bytes),
        auc_text(variant.auc) + _change(variant.auc_delta),
        *("-" if each is None else ms_text(each.value_us) for each in found),
        number_text(variant.measurement.candidates_per_s),
    )


def size_text(size: int | None) -> str:
    """Return such as ``6.3 MB``; nothing for None."""
    return "" if size is None else f"{size / 1e6:.1f} MB"


def auc_text(auc: float | None) -> str:
    """Return an AUC with four digits, or ``-`` where it is not defined."""
    return "-" if auc is None else f"{auc:.4f}"


def _change(delta: tuple[float, float, float] | None) -> str:
    if delta is None:
        return ""
    if not any(delta):
        return " (0: rounding alone)"
    return f" ({delta[0]:+.1g}, {delta[1]:+.1g} to {delta[2]:+.1g})"
