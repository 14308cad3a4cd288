"""Whether each row is scored by itself: alone, in any company, in any place, every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.diagnosis.finding import Finding, Place
from optimize.diagnosis.origins import (
    spread_rows,
    where_chance_comes_in,
    where_place_matters,
    where_rows_mix,
    where_size_matters,
)
from optimize.diagnosis.trace import operator_name, place_of
from optimize.export import SAMPLE_ROWS, evaluation_rows
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.fx import Node

    from optimize.diagnosis.trace import Trace
    from rankers.ranker import Ranker
    from rankers.requests import Array, Columns

# With the same shapes the same kernels run: more than the last bits of float32 is no rounding.
_SAME_SHAPE = 1e-6
# Kernels differ between batch sizes in the last bits; a real dependence is far larger.
_OTHER_SHAPE = 1e-4

# How operators that mix rows are called, and what to do about them. The rest is in `_MIXING`.
_MIXING = "compute it within each row: reduce, sort or multiply over no dimension that holds rows"
_REMEDIES: dict[str, tuple[str, str]] = {
    "softmax": (
        "a softmax over the rows",
        "take it over a row's own dimension; normalize a request's candidates after scoring",
    ),
    "log_softmax": ("a log-softmax over the rows", "as for training only: leave it out of forward"),
    "matmul": (
        "a product of rows with rows (attention between candidates, in-batch logits)",
        "let a row attend to its own history only; serve candidates that see each other as one row",
    ),
    "scaled_dot_product_attention": (
        "attention between rows",
        "keep the rows in the first dimension (batch_first=True), so that attention is within one",
    ),
    "mean": ("a mean over the rows", "keep the training mean in a buffer, or reduce within a row"),
    "sum": ("a sum over the rows", _MIXING),
    "max": ("a maximum over the rows", "scale by a constant from training, kept in a buffer"),
    "layer_norm": ("a norm over the rows", "normalize over a row's own dimensions"),
}
_SAME_AS = {
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "mm": "matmul",
    "bmm": "matmul",
    "linear": "matmul",
    "einsum": "matmul",
    "addmm": "matmul",
    "baddbmm": "matmul",
    "amax": "max",
    "group_norm": "layer_norm",
    "instance_norm": "layer_norm",
}
_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
_STATISTICS = ("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "instance_norm")


def examine_rows(ranker: Ranker, trace: Trace | None) -> list[Finding]:
    """Score the same rows again, alone, in other company and in other places.

    Args:
        ranker: It scores its evaluation rows.
        trace: To tell where it happens; without one it is only told that it does.
    """
    findings = _state(ranker)
    base = spread_rows(ranker, SAMPLE_ROWS)
    again = _again(ranker, trace, base, known=bool(findings))
    findings += again
    if _depends_on_company(ranker, base):
        return findings + _mixing(ranker, trace)
    if again:  # the next would only find the same once more
        return findings
    order = np.roll(np.arange(SAMPLE_ROWS), 1)
    moved = _score(ranker, {name: column[order] for name, column in base.items()})
    together = _score(ranker, base)
    if _unlike(together[order], moved, _SAME_SHAPE):
        places = _places(where_place_matters(trace, ranker) if trace else ())
        return findings + [_position(together[order], moved, place) for place in places]
    return findings + _alone(ranker, trace, base, together)


def _state(ranker: Ranker) -> list[Finding]:
    """Find the buffers and parameters that scoring changes."""
    before = {name: x.detach().clone() for name, x in ranker.module.named_buffers()}
    versions = {name: _version(x) for name, x in ranker.module.named_parameters()}
    _score(ranker, spread_rows(ranker, SAMPLE_ROWS))
    after = dict(ranker.module.named_buffers())
    changed = [
        name
        for name, value in before.items()
        if name not in after
        or value.shape != after[name].shape
        or bool((value != after[name]).any())
    ]
    changed += [
        name for name, x in ranker.module.named_parameters() if versions.get(name) != _version(x)
    ]
    return [
        Finding(
            "state-changes",
            f"scoring changes {name}: a request's scores would depend on those before it",
            "write to it only in training (`if self.training:`); an artifact keeps no state",
            place=Place(name.rpartition(".")[0]),
        )
        for name in changed
    ]


def _version(parameter: Tensor) -> tuple[int, int]:
    """Return what a write to a parameter changes: cheaper than a copy of all tables."""
    return parameter.data_ptr(), parameter._version  # noqa: SLF001 - torch has no other name for it


def _again(ranker: Ranker, trace: Trace | None, base: Columns, *, known: bool) -> list[Finding]:
    """Score the same rows twice, with the same and with other random numbers."""
    first, second = _score(ranker, base, seed=0), _score(ranker, base, seed=1)
    if not _unlike(first, second, 0.0):
        return []
    largest = _largest(first, second)
    if not _unlike(_score(ranker, base, seed=0), _score(ranker, base, seed=0), 0.0):
        places = _places(where_chance_comes_in(trace, ranker) if trace else ())
        return [_chance(place, largest) for place in places]
    if known:  # a buffer that changes explains it
        return []
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


def _depends_on_company(ranker: Ranker, base: Columns) -> bool:
    """Score three rows in the company of others, in the same places."""
    random = np.random.default_rng(0)
    together = _score(ranker, base)
    for row in (0, SAMPLE_ROWS // 2, SAMPLE_ROWS - 1):
        for _ in range(2):
            rows = random.integers(ranker.evaluation.rows, size=SAMPLE_ROWS)
            company = evaluation_rows(ranker, rows)
            for name, column in company.items():
                column[row] = base[name][row]
            if _unlike(together[row], _score(ranker, company)[row], _SAME_SHAPE):
                return True
    return False


def _mixing(ranker: Ranker, trace: Trace | None) -> list[Finding]:
    """Say at which operators rows mix."""
    places = _places(where_rows_mix(trace, ranker) if trace else ())
    return [_mixed(place) for place in places]


def _mixed(place: Place | None) -> Finding:
    name = place.operator.rpartition(".")[2] if place else ""
    if name in _STATISTICS:
        return Finding(
            "batch-statistics",
            "batch norm uses the statistics of the batch in evaluation mode: a row's score depends "
            "on the rows beside it",
            "track running statistics in training (track_running_stats=True, training=False when "
            "scoring)",
            place=place,
        )
    how, remedy = _REMEDIES.get(_SAME_AS.get(name, name), (f"{name or 'something'}", _MIXING))
    return Finding(
        "rows-mix",
        f"a row's score depends on the other rows of its batch: {how}",
        remedy,
        place=place,
    )


def _position(one: Array, other: Array, place: Place | None) -> Finding:
    return Finding(
        "position-matters",
        f"rows score up to {_largest(one, other):.2g} apart in another place of the batch",
        "use no row numbers (torch.arange over the batch, an offset kept between rows)",
        place=place,
    )


def _alone(ranker: Ranker, trace: Trace | None, base: Columns, together: Array) -> list[Finding]:
    """Score rows alone."""
    try:
        alone = [
            float(_score(ranker, {name: x[row : row + 1] for name, x in base.items()})[0])
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
    if not _unlike(scores, together[:3], _OTHER_SHAPE):
        return []
    largest = _largest(scores, together[:3])
    return [
        Finding(
            "batch-size-matters",
            f"rows score up to {largest:.2g} apart alone and among {SAMPLE_ROWS}",
            "compute nothing from the number of rows",
            place=place,
        )
        for place in _places(where_size_matters(trace, ranker) if trace else ())
    ]


def _places(nodes: Iterable[Node]) -> list[Place | None]:
    """Return each node's place once; None, once, where nothing is known of it."""
    found: dict[Place, None] = {place_of(node): None for node in nodes if operator_name(node)}
    return list(found) or [None]


def _score(ranker: Ranker, columns: Columns, seed: int = 0) -> Array:
    """Score with known random numbers."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ranker.score(columns)


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
