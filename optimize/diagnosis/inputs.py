"""What each feature is to the ranker: whose it is, what was seen of it, what it does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.diagnosis.finding import Finding
from optimize.diagnosis.origins import spread_rows
from optimize.diagnosis.trace import features_of
from rankers.errors import UserError

if TYPE_CHECKING:
    from optimize.diagnosis.trace import Trace
    from rankers.features import Feature
    from rankers.ranker import Ranker
    from rankers.requests import Array, Columns, RequestBatch

_ROWS = 256
# Fewer requests of several candidates than this say nothing about what is the user's.
_REQUESTS = 5


@dataclass(frozen=True, slots=True)
class Input:
    """One feature, and what was found about it.

    Attributes:
        name: Of the feature.
        side: ``user`` or ``item``, as the signature says.
        dtype: Of its elements.
        shape: Of one row.
        cardinality: For IDs, how many there are.
        padding: For bags and sequences of IDs, the one that marks an empty place.
        lowest: The lowest value in the evaluation requests; NaN and infinity do not count.
        highest: The highest.
        influence: The largest change of a score seen when only this feature's values were exchanged
            among rows; 0 if none of several ways to change them moved any score.
    """

    name: str
    side: str
    dtype: str
    shape: tuple[int, ...]
    cardinality: int | None
    padding: int | None
    lowest: float
    highest: float
    influence: float

    def to_json(self) -> dict[str, Any]:
        """Return the input as JSON-ready data."""
        return asdict(self) | {"shape": list(self.shape)}


def examine_inputs(ranker: Ranker, trace: Trace | None) -> tuple[list[Input], list[Finding]]:
    """Look at every feature's values, and exchange them one feature at a time."""
    base = spread_rows(ranker, min(_ROWS, ranker.evaluation.rows))
    expected = ranker.score(base)
    reaching = features_of(trace)[trace.score] if trace else None
    inputs, findings, unused = [], [], []
    for feature in ranker.signature.features:
        batch = ranker.evaluation
        column = (batch.user if feature.side == "user" else batch.items)[feature.name]
        influence = _influence(ranker, feature, base, expected)
        inputs.append(_input(feature, column, influence))
        constant = bool((column == column[:1]).all())
        if influence == 0.0:
            unused.append(_unused(feature, reaching, len(expected)))
        elif constant and len(column) > 1:
            findings.append(
                Finding(
                    "constant-feature",
                    f"{feature.name} has the same value in all {len(column)} rows of the "
                    "evaluation requests",
                    "check the data: its effect cannot be judged, nor a fault in its handling",
                    (feature.name,),
                )
            )
        elif feature.side == "item":
            findings += _whose(feature, column, batch)
    # If nothing moves the score, the fault is the score's, which is told elsewhere.
    return inputs, findings if len(unused) == len(inputs) else unused + findings


def _input(feature: Feature, column: Array, influence: float) -> Input:
    finite = column[np.isfinite(column)]
    return Input(
        name=feature.name,
        side=feature.side,
        dtype=feature.dtype,
        shape=feature.shape,
        cardinality=feature.cardinality,
        padding=feature.padding,
        lowest=float(finite.min()) if finite.size else 0.0,
        highest=float(finite.max()) if finite.size else 0.0,
        influence=influence,
    )


def _influence(ranker: Ranker, feature: Feature, base: Columns, expected: Array) -> float:
    """Exchange one feature's values among the rows; if nothing moves, draw others."""
    random = np.random.default_rng(0)
    column = base[feature.name]
    largest = 0.0
    for values in (
        np.roll(column, 1, axis=0),
        random.permutation(column),
        _drawn(feature, column, random),
    ):
        try:
            scores = ranker.score(base | {feature.name: values})
        except UserError:  # a valid ID without a row in its table: found and said elsewhere
            continue
        moved = np.abs(scores.astype(np.float64) - expected)
        largest = max(largest, float(np.nan_to_num(moved, nan=0.0, posinf=0.0).max()))
        if largest > 0.0:
            break
    return largest


def _drawn(feature: Feature, column: Array, random: np.random.Generator) -> Array:
    """Draw values that the feature may have, other than those that were seen."""
    if feature.dtype == "bool":
        return np.logical_not(column)
    if feature.cardinality is not None:
        drawn = np.asarray(random.integers(0, feature.cardinality, column.shape))
        return drawn.astype(column.dtype)
    if feature.dtype.startswith("int"):  # which IDs there are is not known: only those seen
        seen = np.unique(column)
        chosen: Array = seen[random.integers(len(seen), size=column.shape)]
        return chosen
    spread = float(np.nanstd(column)) or 1.0
    noise = random.standard_normal(column.shape) * spread
    moved: Array = (column + noise).astype(column.dtype)
    return moved


def _unused(feature: Feature, reaching: frozenset[str] | None, rows: int) -> Finding:
    if reaching is not None and feature.name not in reaching:
        how = f"{feature.name} never reaches the score"
    else:
        how = f"{feature.name} moves none of {rows} scores, whatever its value"
    return Finding(
        "unused-feature",
        how,
        "leave it out of the signature: every request carries it for nothing",
        (feature.name,),
    )


def _whose(feature: Feature, column: Array, batch: RequestBatch) -> list[Finding]:
    """Find an item feature that is the same for all candidates of each request."""
    several = int((batch.candidates > 1).sum())
    if several < _REQUESTS:
        return []
    first = np.repeat(column[batch.offsets[:-1]], batch.candidates, axis=0)
    if not bool((column == first).all()):
        return []
    return [
        Finding(
            "probably-user-side",
            f"{feature.name} is an item feature, but the same for all candidates in each of "
            f"{several} requests",
            "if it is the user's or the context's, declare side=\"user\": it is then sent once a "
            "request, and what follows from it alone can be computed once",
            (feature.name,),
        )
    ]
