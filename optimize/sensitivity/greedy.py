"""Mixed precision by sensitivity: the steps that gain most for what they cost, within a budget.

What steps cost does not simply add up, so each is measured together with all that were taken
before; one with which the budget no longer holds is left out, and the others go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optimize.gates.holding import json_number
from optimize.int8.layers import LEAST_WEIGHTS
from optimize.sensitivity.scoring import Changes
from optimize.sensitivity.trials import TREATMENTS, layer_changes, table_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.sensitivity.budget import Budget
    from optimize.sensitivity.layers import Layer
    from optimize.sensitivity.loss import Loss
    from optimize.sensitivity.subject import Subject
    from optimize.sensitivity.trials import Trial
    from optimize.tables.program import Table
    from optimize.tables.quantize import Width


@dataclass(frozen=True, slots=True)
class Step:
    """A table or a layer made narrower, on top of what was taken before.

    Attributes:
        kind: ``table`` or ``layer``.
        name: Of it.
        width: That it gets.
        score_change: Of all steps together, this one included; see `Loss`.
        taken: Whether the budget still held.
    """

    kind: str
    name: str
    width: str
    score_change: float
    taken: bool


@dataclass(frozen=True, slots=True)
class MixedPrecision:
    """What was chosen, as it was measured with everything at once.

    Attributes:
        budget: It is within this.
        widths: By table; one that is missing stays as it is.
        layers: Those in int8, weights and inputs.
        kept: Layers that were tried and stay, by name: why.
        loss: Of the whole choice.
        predicted: Its score change, had single ones added up like independent errors.
        table_bytes: Of all tables before and after.
        work_share: Of the dense layers' multiply-adds that are done in int8.
        steps: In the order in which they were tried.
    """

    budget: Budget
    widths: dict[str, Width]
    layers: tuple[str, ...]
    kept: dict[str, str]
    loss: Loss
    predicted: float
    table_bytes: tuple[int, int]
    work_share: float
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "budget": {"name": self.budget.name, "limit": self.budget.limit},
            "widths": self.widths,
            "layers": list(self.layers),
            "kept": self.kept,
            "loss": self.loss.to_json(),
            "predicted_score_change": self.predicted,
            "table_bytes_before": self.table_bytes[0],
            "table_bytes_after": self.table_bytes[1],
            "work_share": self.work_share,
            "steps": [
                {name: getattr(each, name) for name in each.__slots__}
                | {"score_change": json_number(each.score_change)}
                for each in self.steps
            ],
        }

    def __str__(self) -> str:
        before, after = self.table_bytes
        said = [f"tables {before:,} to {after:,} bytes"] if before else []
        said += [f"{len(self.layers)} layers in int8, {self.work_share:.0%} of their multiply-adds"]
        return f"within {self.budget}: {'; '.join(said)}"


def choose(subject: Subject, trials: Sequence[Trial], budget: Budget) -> MixedPrecision:
    """Choose widths of tables, and layers to have in int8.

    A step's price is what it adds to the squared score change, for its share of all tables' bytes
    or of all layers' multiply-adds. The cheapest is tried first. In the end all of them are
    measured as they will be, tables with the scales that they then share, and the last are taken
    back until the budget holds.

    Args:
        subject: The program, and the requests.
        trials: Of `optimize.sensitivity.trials.run_trials`; what was not tried stays as it is.
        budget: The most that may be lost.

    Raises:
        UserError: The budget cannot be measured on these requests.
    """
    budget.check(subject.requests, subject.signature.score)
    asked = () if budget.metric is None else (budget.metric,)
    ladder = _ladder(subject, trials)
    parts: dict[str, Changes] = {}  # by table or layer: what is read otherwise
    now: dict[str, Trial] = {}
    taken: list[tuple[str, Trial | None]] = []
    steps = []
    while (trial := _cheapest(subject, ladder, now)) is not None:
        key = _key(trial)
        tried = {**parts, key: _changes(subject, trial)}
        loss = subject.loss_of(_joined(tried), alone=asked)
        fits = budget.holds(loss, subject.requests)
        steps.append(Step(trial.kind, trial.name, trial.treatment, loss.score_change, fits))
        if fits:
            taken.append((key, now.get(key)))
            parts, now[key] = tried, trial
        else:  # what is narrower still would cost more
            del ladder[key]
    loss = _measured(subject, now)
    while taken and not budget.holds(loss, subject.requests):
        key, before = taken.pop()
        steps = _taken_back(steps, now[key])
        if before is None:
            del now[key]
        else:
            now[key] = before
        loss = _measured(subject, now)
    return _chosen(subject, trials, now, budget=budget, loss=loss, steps=steps)


def can_be_int8(subject: Subject) -> dict[str, str]:
    """Return why each layer stays as it is whatever it costs, by name; empty for the others."""
    last = subject.layers[-1].name if subject.layers else ""
    found = {}
    for each in subject.layers:
        small = each.weight.numel() < LEAST_WEIGHTS
        shape = f"{each.weight.shape[1]} to {each.weight.shape[0]}"
        found[each.name] = "last" if each.name == last else f"small, {shape}" if small else ""
    return found


def _ladder(subject: Subject, trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Return the steps of each table and layer, widest first."""
    fixed = can_be_int8(subject)
    found: dict[str, list[Trial]] = {}
    for each in trials:
        wanted = each.kind == "table" or (
            each.kind == "layer" and each.treatment == TREATMENTS["int8"] and not fixed[each.name]
        )
        if wanted:
            found.setdefault(_key(each), []).append(each)
    return {key: sorted(steps, key=lambda x: -x.bytes_after) for key, steps in found.items()}


def _cheapest(
    subject: Subject, ladder: dict[str, list[Trial]], now: dict[str, Trial]
) -> Trial | None:
    """Return the step that adds least to the squared score change for what it gains."""
    tables = max(1, sum(each.bytes for each in subject.tables))
    best, least = None, math.inf
    for key, trials in ladder.items():
        at = now.get(key)
        for each in trials:
            had = each.bytes_before if at is None else at.bytes_after
            if each.bytes_after >= had:
                continue
            cost = each.loss.score_change**2 - (0.0 if at is None else at.loss.score_change**2)
            gain = (had - each.bytes_after) / tables if each.kind == "table" else each.work_share
            price = cost / max(gain, 1e-12)
            if price < least:
                best, least = each, price
    return best


def _changes(subject: Subject, trial: Trial) -> Changes:
    if trial.kind == "table":
        return table_changes(_tables(subject, {_key(trial): trial}))
    return layer_changes(
        dict.fromkeys(_layers(subject, {_key(trial): trial}), "int8"),
        seven_bits=subject.seven_bits,
    )


def _joined(parts: dict[str, Changes]) -> Changes:
    found = Changes()
    for each in parts.values():
        found |= each
    return found


def _measured(subject: Subject, now: dict[str, Trial]) -> Loss:
    """Measure a choice as it will be: tables that are held in codes share their scales."""
    layers = dict.fromkeys(_layers(subject, now), "int8")
    changes = table_changes(_tables(subject, now)) | layer_changes(
        layers,  # type: ignore[arg-type] # dict's value type is invariant
        seven_bits=subject.seven_bits,
    )
    return subject.loss_of(changes)


def _taken_back(steps: list[Step], trial: Trial) -> list[Step]:
    return [
        replace(each, taken=False)
        if (each.kind, each.name, each.width) == (trial.kind, trial.name, trial.treatment)
        else each
        for each in steps
    ]


def _chosen(
    subject: Subject,
    trials: Sequence[Trial],
    now: dict[str, Trial],
    *,
    budget: Budget,
    loss: Loss,
    steps: list[Step],
) -> MixedPrecision:
    layers = [each.name for each in _layers(subject, now)]
    sizes = {each.name: each.bytes for each in subject.tables}
    narrow = {each.name: now[f"table {each.name}"] for each in _tables(subject, now)}
    tried = {each.name for each in trials if each.kind == "layer"}
    return MixedPrecision(
        budget=budget,
        widths={name: each.treatment for name, each in narrow.items()},  # type: ignore[misc]
        layers=tuple(layers),
        kept={
            name: reason or "the budget"
            for name, reason in can_be_int8(subject).items()
            if name in tried and name not in layers
        },
        loss=loss,
        predicted=math.sqrt(sum(each.loss.score_change**2 for each in now.values())),
        table_bytes=(
            sum(sizes.values()),
            sum(narrow[x].bytes_after if x in narrow else size for x, size in sizes.items()),
        ),
        work_share=sum(each.work_share for each in now.values()),
        steps=tuple(steps),
    )


def _key(trial: Trial) -> str:
    return f"{trial.kind} {trial.name}"


def _tables(subject: Subject, now: dict[str, Trial]) -> dict[Table, Width]:
    return {
        each: now[f"table {each.name}"].treatment  # type: ignore[misc] # of a table it is a width
        for each in subject.tables
        if f"table {each.name}" in now
    }


def _layers(subject: Subject, now: dict[str, Trial]) -> list[Layer]:
    return [each for each in subject.layers if f"layer {each.name}" in now]
