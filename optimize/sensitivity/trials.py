"""One thing changed at a time: each table, each dense layer, each feature field."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from optimize.sensitivity.rounding import rounded_weight, weight_bytes
from optimize.sensitivity.scoring import Changes, ReadProduct
from optimize.tables.quantize import bytes_at, fitting_width, levels_of, rounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optimize.gain import Speed
    from optimize.sensitivity.layers import Layer
    from optimize.sensitivity.loss import Loss
    from optimize.sensitivity.rounding import LayerWidth
    from optimize.sensitivity.subject import Subject
    from optimize.tables.program import Table
    from optimize.tables.quantize import Width

Kind = Literal["table", "layer", "field"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# What is done to each layer: inputs are rounded with int8, and not with int4.
LAYER_WIDTHS: tuple[LayerWidth, ...] = ("int8", "int4")
TREATMENTS: dict[LayerWidth, str] = {"int8": "int8", "int4": "int4 weights"}
PERMUTED = "permuted"


@dataclass(frozen=True, slots=True)
class Trial:
    """What one change costs, all else as it was, and what it gains.

    Attributes:
        kind: Of what is changed.
        name: Of the table, the layer or the feature.
        treatment: ``int8``, ``int4``, ``fp16`` of a table; ``int8`` (weights and inputs) or ``int4
            weights`` of a layer; ``permuted``, a field's values dealt out anew.
        loss: What it does to scores.
        bytes_before: Of the table or the layer; of a field's tables that nothing else reads.
        bytes_after: With the change; without the field.
        multiply_adds: Of a layer, for each candidate.
        work_share: Of all dense layers' multiply-adds.
        column_bytes: Of a field: its value of one user or candidate, as it is sent.
        speed: Of the ONNX graph with that layer alone in int8, if it was measured.
    """

    kind: Kind
    name: str
    treatment: str
    loss: Loss
    bytes_before: int
    bytes_after: int
    multiply_adds: int = 0
    work_share: float = 0.0
    column_bytes: int = 0
    speed: Speed | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {
            "loss": self.loss.to_json(),
            "speed": None if self.speed is None else self.speed.to_json(),
        }


def run_trials(
    subject: Subject,
    kinds: Sequence[Kind],
    widths: Sequence[Width],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Trial]:
    """Try everything, each alone.

    Args:
        subject: The program, and the requests.
        kinds: What is tried.
        widths: At which tables are.
        progress: Is told what comes next.

    Returns:
        By kind, and what changes scores most first.
    """
    ways = {"table": _tables(subject, widths), "layer": _layers(subject), "field": _fields(subject)}
    found = []
    for kind in kinds:
        tried = []
        for make in ways[kind]:
            trial = make()
            progress(f"{kind} {trial.name}")
            tried.append(trial)
        found += sorted(tried, key=lambda each: -each.loss.score_change)
    return found


def table_changes(tables: Mapping[Table, Width]) -> Changes:
    """Return what reading tables at other widths is; int8 and int4 share their scales."""
    named = {each.name: width for each, width in tables.items()}
    scales = levels_of([*tables], named)
    held = {}
    for table, width in tables.items():
        values = rounded(table.weight, width, scales)
        held.update(dict.fromkeys(table.sources, values))
    return Changes(held=held)


def layer_changes(layers: Mapping[Layer, LayerWidth], *, seven_bits: bool) -> Changes:
    """Return what reading layers in few bits is."""
    products = {}
    for layer, width in layers.items():
        weight = rounded_weight(layer.weight, width, seven_bits=seven_bits)
        for each in layer.products:
            products[each.node] = ReadProduct(each, weight, round_input=width == "int8")
    return Changes(products=products)


def possible_widths(table: Table, widths: Sequence[Width]) -> list[Width]:
    """Return those of some widths that a table can have and that make it smaller, widest first."""
    sizes = {x: bytes_at(table.weight, x) for x in widths if fitting_width(table.weight, x) == x}
    return sorted((x for x in sizes if sizes[x] < table.bytes), key=lambda x: -sizes[x])


def _tables(subject: Subject, widths: Sequence[Width]) -> Iterator[Callable[[], Trial]]:
    for table in subject.tables:
        for width in possible_widths(table, widths):
            yield lambda table=table, width=width: Trial(  # type: ignore[misc]
                kind="table",
                name=table.name,
                treatment=width,
                loss=subject.loss_of(table_changes({table: width})),
                bytes_before=table.bytes,
                bytes_after=bytes_at(table.weight, width),
            )


def _layers(subject: Subject) -> Iterator[Callable[[], Trial]]:
    total = max(1, sum(each.multiply_adds for each in subject.layers))
    for layer in subject.layers:
        for width in LAYER_WIDTHS:
            yield lambda layer=layer, width=width: Trial(  # type: ignore[misc]
                kind="layer",
                name=layer.name,
                treatment=TREATMENTS[width],
                loss=subject.loss_of(layer_changes({layer: width}, seven_bits=subject.seven_bits)),
                bytes_before=layer.weight.nbytes,
                bytes_after=weight_bytes(layer.weight, width),
                multiply_adds=layer.multiply_adds,
                work_share=layer.multiply_adds / total,
            )


def _fields(subject: Subject) -> Iterator[Callable[[], Trial]]:
    for place, feature in enumerate(subject.signature.features):
        column = (subject.requests.user | subject.requests.items)[feature.name]
        drawn = column[np.random.default_rng(place).permutation(len(column))]
        if feature.side == "user":
            drawn = np.repeat(drawn, subject.requests.candidates, axis=0)
        own = sum(x.bytes for x in subject.tables if subject.readers[x.name] == (feature.name,))
        yield (
            lambda feature=feature, drawn=drawn, own=own, column=column: Trial(  # type: ignore[misc]
                kind="field",
                name=feature.name,
                treatment=PERMUTED,
                loss=subject.loss_of(columns={feature.name: drawn}),
                bytes_before=own,
                bytes_after=0,
                column_bytes=column[:1].nbytes,
            )
        )


def with_speeds(trials: Sequence[Trial], speeds: Mapping[str, Speed]) -> list[Trial]:
    """Return trials with what was measured of layers in int8, by the layers' names."""
    return [
        replace(each, speed=speeds.get(each.name))
        if each.kind == "layer" and each.treatment == TREATMENTS["int8"]
        else each
        for each in trials
    ]
