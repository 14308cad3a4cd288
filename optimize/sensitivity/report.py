"""What sensitivity found: a file of JSON, and tables for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.tables import Table
from optimize.sensitivity.loss import TOP_K

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimize.gain import Speed
    from optimize.sensitivity.greedy import MixedPrecision
    from optimize.sensitivity.trials import Kind, Trial
    from rankers.intervals import Interval

SCHEMA = 1
_NOTES: dict[Kind, str] = {
    "table": "",
    "layer": "Work: multiply-adds. Weights in int4 are no stage here: they show what is robust.",
    "field": "Bytes of tables that only it reads, and of a value of it as it is sent.",
}
MOST_ROWS = 30
_TITLES: dict[Kind, str] = {
    "table": "Embedding tables, each alone in fewer bits",
    "layer": "Dense layers, each alone in fewer bits",
    "field": "Feature fields, each alone with its values dealt out anew",
}
_METRICS = {"auc": "ΔAUC", "ndcg_at_10": "ΔNDCG@10"}  # as wide as a terminal; the file has more
_UNIT = 1e-4  # of the changes of metrics, as they are printed


@dataclass(frozen=True)
class Sensitivity:
    """All that was found of one ranker.

    Attributes:
        ranker: Its name.
        requests: How many calibration requests were scored.
        rows: Their candidates.
        labels: Whether they have labels.
        trials: By kind, and what changes scores most first.
        left: Why tables were left alone, by name.
        choice: A joint one within a budget, if one was asked for.
    """

    ranker: str
    requests: int
    rows: int
    labels: bool
    trials: Sequence[Trial]
    left: Mapping[str, str]
    choice: MixedPrecision | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "schema": SCHEMA,
            "ranker": self.ranker,
            "requests": self.requests,
            "rows": self.rows,
            "labels": self.labels,
            "trials": [each.to_json() for each in self.trials],
            "left": dict(self.left),
            "choice": None if self.choice is None else self.choice.to_json(),
        }

    def of_kind(self, kind: str) -> list[Trial]:
        """Return the trials of tables, layers or fields."""
        return [each for each in self.trials if each.kind == kind]


def tables(found: Sensitivity) -> list[Table]:
    """Return a table for each kind, and one of the joint choice; what costs most comes first."""
    made = []
    for kind, title in _TITLES.items():
        trials = found.of_kind(kind)
        if trials:
            shown = trials[:MOST_ROWS]
            rest = len(trials) - len(shown)
            note = f"The {rest} that change scores least are in the file alone." if rest else ""
            made.append(_table(title, kind, shown, note, labels=found.labels))
    if found.choice is not None:
        made.append(_choice_table(found.choice, labels=found.labels))
    return made


def loss_columns(*, labels: bool) -> tuple[str, ...]:
    """Return the headings of what `loss_texts` gives."""
    order = ("score change", "τ")
    changes = (f"{each}, 1e-4" for each in _METRICS.values())
    return (*order, *changes) if labels else (*order, "τ, worst tenth", f"top-{TOP_K} kept")


def _table(title: str, kind: Kind, trials: Sequence[Trial], note: str, *, labels: bool) -> Table:
    measured = any(each.speed is not None for each in trials)
    gains = {
        "table": ("saves",),
        "layer": ("saves", "work", *(("speed",) if measured else ())),
        "field": ("own tables", "sent"),
    }[kind]
    return Table(
        title=title,
        columns=(kind, "" if kind == "field" else "as", *loss_columns(labels=labels), *gains),
        rows=tuple(
            (
                each.name,
                "" if kind == "field" else each.treatment,
                *_loss_texts(each, labels=labels),
                *_gain_texts(each, kind, measured=measured),
            )
            for each in trials
        ),
        note=" ".join(x for x in (_NOTES[kind], note) if x),
    )


def _loss_texts(trial: Trial, *, labels: bool) -> tuple[str, ...]:
    loss = trial.loss
    order = (f"{loss.score_change:.2%}", _share(loss.kendall))
    if labels:
        return (*order, *(interval_text(loss.quality.get(name)) for name in _METRICS))
    return (*order, _share(loss.kendall_worst), _share(loss.overlap))


def _gain_texts(trial: Trial, kind: Kind, *, measured: bool) -> tuple[str, ...]:
    if kind == "field":
        return (f"{trial.bytes_before:,}", f"{trial.column_bytes:,}")
    saved = f"{trial.bytes_before - trial.bytes_after:,}"
    if kind == "table":
        return (saved,)
    speed = trial.speed
    return (saved, f"{trial.work_share:.1%}", *((_speed_text(speed),) if measured else ()))


def _speed_text(speed: Speed | None) -> str:
    """Return how many times as fast at p50, with its interval."""
    if speed is None or speed.low is None or speed.high is None:
        return "-"
    return f"{speed.speed:.2f} ({speed.low:.2f} to {speed.high:.2f})"


def _choice_table(choice: MixedPrecision, *, labels: bool) -> Table:
    return Table(
        title=f"Mixed precision {choice}",
        columns=("step", "to", "score change of all so far", ""),
        rows=tuple(
            (
                f"{each.kind} {each.name}",
                each.width,
                f"{each.score_change:.2%}",
                "taken" if each.taken else "beyond the budget",
            )
            for each in choice.steps
        ),
        note=_measured_text(choice, labels=labels),
    )


def _measured_text(choice: MixedPrecision, *, labels: bool) -> str:
    loss = choice.loss
    said = f"Measured together: scores change by {loss.score_change:.2%} of their spread"
    said += f" ({choice.predicted:.2%} had they added up like independent errors)"
    if labels:
        changes = (f"{_METRICS[x]} {interval_text(loss.quality.get(x))}" for x in _METRICS)
        said += f"; in 1e-4: {', '.join(changes)}"
    return f"{said}."


def interval_text(change: Interval | None) -> str:
    """Return such as ``-1.2 (-3.1 to +0.4)`` in units of 1e-4; ``-`` for none."""
    if change is None:
        return "-"
    if change.estimate == change.low == change.high == 0:
        return "0"
    value, low, high = (f"{x / _UNIT:+.2g}" if abs(x / _UNIT) < 10 else f"{x / _UNIT:+,.0f}"
                        for x in (change.estimate, change.low, change.high))  # fmt: skip
    return f"{value} ({low} to {high})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
