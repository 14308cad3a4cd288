"""Whether each row is scored by itself: alone, in any company, in any place, every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.diagnosis.finding import Finding
from optimize.diagnosis.mixing import mixed_at
from optimize.diagnosis.origins import (
    spread_rows,
    where_chance_comes_in,
    where_place_matters,
    where_rows_mix,
    where_size_matters,
)
from optimize.diagnosis.state import watch_state
from optimize.diagnosis.trace import place_of
from optimize.export import SAMPLE_ROWS, evaluation_rows
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import Node

    from optimize.diagnosis.finding import Place
    from optimize.diagnosis.state import StillScorer
    from optimize.diagnosis.trace import Trace
    from rankers.ranker import Ranker
    from rankers.requests import Array, Columns

# In the same place of a batch of the same size a row goes through the same instructions.
_SAME_SHAPE = 1e-6
# In another place, or among another number of rows, kernels round differently in the last bits; a
# real dependence is far larger.
_ROUNDING = 1e-4
_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")


def examine_rows(ranker: Ranker, trace: Trace | None) -> list[Finding]:
    """Score the same rows again, alone, in other company and in other places.

    Args:
        ranker: It scores its evaluation rows.
        trace: To tell where it happens; without one it is only told that it does.
    """
    base = spread_rows(ranker, SAMPLE_ROWS)
    score, findings = watch_state(ranker, base)
    again = _again(score, ranker, trace, base)
    findings += again
    if any(each.code == "hidden-state" for each in again):
        return findings  # nothing can be compared
    if _depends_on_company(score, ranker, base):
        return findings + [mixed_at(place) for place in _places(trace, ranker, where_rows_mix)]
    if again:  # the next would only find the same once more
        return findings
    order = np.roll(np.arange(SAMPLE_ROWS), 1)
    moved = score({name: column[order] for name, column in base.items()})
    together = score(base)
    if _unlike(together[order], moved, _ROUNDING):
        return findings + [
            _position(together[order], moved, place)
            for place in _places(trace, ranker, where_place_matters)
        ]
    return findings + _alone(score, ranker, trace, base, together)


def _again(score: StillScorer, ranker: Ranker, trace: Trace | None, base: Columns) -> list[Finding]:
    """Score the same rows twice, with the same and with other random numbers."""
    first, second = score(base, seed=0), score(base, seed=1)
    if not _unlike(first, second, _SAME_SHAPE):
        return []
    largest = _largest(first, second)
    if not _unlike(score(base, seed=0), score(base, seed=0), _SAME_SHAPE):
        places = _places(trace, ranker, where_chance_comes_in)
        return [_chance(place, largest) for place in places]
    return [
        Finding(
            "hidden-state",
            f"the same rows score up to {largest:.2g} apart when scored again, and not by chance",
            "find what forward keeps between calls (an attribute, a global, a cache); keep nothing",
        )
    ]


def _chance(place: Place | None, largest: float) -> Finding:
    apart = f"the same rows score up to {largest:.2g} apart each time"
    if place and place.operator.rpartition(".")[2] in _DROPOUTS:
        return Finding(
            "active-dropout",
            f"dropout is active in evaluation mode: {apart}",
            "use nn.Dropout, or F.dropout(x, p, training=self.training)",
            place=place,
        )
    return Finding(
        "random-scores",
        f"random numbers go into the score: {apart}",
        "draw them in training only, or once, into a buffer",
        place=place,
    )


def _depends_on_company(score: StillScorer, ranker: Ranker, base: Columns) -> bool:
    """Score three rows in the company of others, in the same places."""
    random = np.random.default_rng(0)
    together = score(base)
    for row in (0, SAMPLE_ROWS // 2, SAMPLE_ROWS - 1):
        for _ in range(2):
            rows = random.integers(ranker.evaluation.rows, size=SAMPLE_ROWS)
            company = evaluation_rows(ranker, rows)
            for name, column in company.items():
                column[row] = base[name][row]
            if _unlike(together[row], score(company)[row], _SAME_SHAPE):
                return True
    return False


def _position(one: Array, other: Array, place: Place | None) -> Finding:
    return Finding(
        "position-matters",
        f"rows score up to {_largest(one, other):.2g} apart in another place of the batch",
        "use no row numbers (torch.arange over the batch, an offset kept between rows)",
        place=place,
    )


def _alone(
    score: StillScorer, ranker: Ranker, trace: Trace | None, base: Columns, together: Array
) -> list[Finding]:
    """Score rows alone."""
    try:
        alone = [
            float(score({name: x[row : row + 1] for name, x in base.items()})[0])
            for row in range(3)
        ]
    except UserError as error:
        return [
            Finding(
                "one-row-fails",
                f"a row alone cannot be scored: {error}",
                "a request may have one candidate: squeeze no dimension that holds rows "
                "(.squeeze(-1), not .squeeze())",
            )
        ]
    scores = np.array(alone)
    if not _unlike(scores, together[:3], _ROUNDING):
        return []
    largest = _largest(scores, together[:3])
    return [
        Finding(
            "batch-size-matters",
            f"rows score up to {largest:.2g} apart alone and among {SAMPLE_ROWS}",
            "compute nothing from the number of rows",
            place=place,
        )
        for place in _places(trace, ranker, where_size_matters)
    ]


def _places(
    trace: Trace | None, ranker: Ranker, where: Callable[[Trace, Ranker], list[Node]]
) -> list[Place | None]:
    """Return each place once; None, once, where nothing is known."""
    nodes = where(trace, ranker) if trace else []
    return list(dict.fromkeys(place_of(node) for node in nodes)) or [None]


def _unlike(one: Any, other: Any, tolerance: float) -> bool:
    """Tell whether scores differ by more than a tolerance, relative above 1; NaN equals NaN."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape:
        return True
    limit = tolerance * np.maximum(1.0, np.abs(np.nan_to_num(one)))
    alike = (np.abs(one - other) <= limit) | (one == other) | (np.isnan(one) & np.isnan(other))
    return not bool(alike.all())


def _largest(one: Array, other: Array) -> float:
    difference = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
    finite = difference[np.isfinite(difference)]
    return float(finite.max()) if len(finite) else float("nan")
