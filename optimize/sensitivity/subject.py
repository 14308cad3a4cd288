"""What is examined: a captured ranker's program, and requests that may choose something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optimize.capture import load_calibration
from optimize.int8.form import form_here
from optimize.sensitivity.layers import Layer, find_layers
from optimize.sensitivity.loss import SHOWN, Loss, Reference
from optimize.sensitivity.scoring import Changes, Scorer
from optimize.tables.program import Table, chosen_tables, lookup_ids, open_tables
from optimize.tables.traffic import features_read
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimize.artifact import Artifact
    from rankers.features import Signature
    from rankers.requests import Columns, RequestBatch


@dataclass(frozen=True)
class Subject:
    """A ranker's program with what can be changed in it.

    Attributes:
        name: The ranker's.
        signature: Its features, and what a score means.
        requests: Of calibration.
        reference: What the program scores on them.
        scorer: Scores them with changes.
        tables: That can be held in fewer bits.
        left: Why others are left alone, by name.
        readers: By every table's name, the features whose IDs read it.
        layers: Dense ones, in the graph's order.
        seven_bits: Whether int8 weights of layers take 7 bits on this CPU.
    """

    name: str
    signature: Signature
    requests: RequestBatch
    reference: Reference
    scorer: Scorer
    tables: tuple[Table, ...]
    left: Mapping[str, str]
    readers: Mapping[str, tuple[str, ...]]
    layers: tuple[Layer, ...]
    seven_bits: bool

    def loss_of(
        self,
        changes: Changes | None = None,
        *,
        columns: Columns | None = None,
        alone: Sequence[str] | None = None,
    ) -> Loss:
        """Score with changes, or with other columns, and compare; see `Reference.loss_of`."""
        return self.reference.loss_of(self.scorer.score(changes, columns), alone=alone)


def open_subject(
    captured: Artifact, *, requests: int, min_rows: int = 1, metrics: Sequence[str] = ()
) -> Subject:
    """Open a captured ranker on its calibration requests; the evaluation is not looked at.

    Args:
        captured: Of `optimize.capture.capture`.
        requests: The most that are scored, evenly drawn.
        min_rows: Tables of fewer rows are left alone.
        metrics: To compare beside the usual ones.

    Raises:
        UserError: The ranker has no calibration requests.
    """
    manifest = captured.manifest
    calibration = calibration_of(captured)
    count = min(requests, len(calibration))
    drawn = calibration.select(np.linspace(0, len(calibration) - 1, count).round())
    graph, tables = open_tables(captured)
    left = chosen_tables(tables, "*", min_rows) if tables else {}
    scorer = Scorer(graph, drawn)
    kind = manifest.signature.score
    names = tuple(dict.fromkeys((*SHOWN, *metrics)))
    return Subject(
        name=manifest.name,
        signature=manifest.signature,
        requests=drawn,
        reference=Reference(drawn, scorer.score(), kind, names),
        scorer=scorer,
        tables=tuple(each for each in tables if each.name not in left),
        left=left,
        readers={
            each.name: tuple(
                sorted({x for y in each.lookups for x in features_read(graph, lookup_ids(y))})
            )
            for each in tables
        },
        layers=tuple(find_layers(graph)),
        seven_bits=form_here().seven_bits,
    )


def calibration_of(captured: Artifact) -> RequestBatch:
    """Return a captured ranker's calibration requests.

    Raises:
        UserError: It has none.
    """
    found = load_calibration(captured)
    if found is None:
        raise calibration_missing(captured.manifest.name)
    return found


def calibration_missing(name: str) -> UserError:
    """Return what is said of a ranker without calibration requests."""
    return UserError(
        f"ranker {name!r} has no calibration requests, and what sensitivity tells chooses widths "
        "and layers, which evaluation requests must not: give some from training with "
        "Ranker(calibration=…)"
    )
