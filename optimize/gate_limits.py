"""The limits of the gates, as a recipe states them in ``[gates.…]``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from rankers.errors import UserError, nearest
from rankers.metrics import check_metric

if TYPE_CHECKING:
    from collections.abc import Mapping

CannotTell = Literal["block", "pass"]


@dataclass(frozen=True, slots=True)
class ParityLimits:
    """How far scores may be from the original's.

    Attributes:
        max_abs: The largest absolute difference of any score.
        mean_abs: The mean absolute difference.
        candidates: The numbers of candidates N at which requests are compared, beside the
            evaluation requests.
    """

    max_abs: float = 1e-5
    mean_abs: float = 1e-6
    candidates: tuple[int, ...] = (1, 2, 37, 200, 700)


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """How much worse each metric may be, at the bad end of its 95 % interval.

    Attributes:
        auc: Largest loss of the area under the ROC curve.
        gauc: Largest loss of the AUC per request, weighted by candidates.
        ndcg_at_10: Largest loss of NDCG@10.
        logloss: Largest rise of the logloss.
        calibration_error: Largest rise of the expected calibration error.
        also: Largest losses of other metrics by name: ``ndcg_at_K``, ``mrr_at_K``, ``recall_at_K``.
        resamples: Of the paired bootstrap over requests.
        cannot_tell: Whether too little data to tell blocks an artifact, or lets it pass.
    """

    auc: float = 1e-6
    gauc: float = 1e-5
    ndcg_at_10: float = 1e-4
    logloss: float = 1e-4
    calibration_error: float = 1e-4
    also: Mapping[str, float] = field(default_factory=dict)
    resamples: int = 1000
    cannot_tell: CannotTell = "block"

    @property
    def by_metric(self) -> dict[str, float]:
        """The limit of each metric."""
        names = ("auc", "gauc", "ndcg_at_10", "logloss", "calibration_error")
        return {name: float(getattr(self, name)) for name in names} | dict(self.also)


@dataclass(frozen=True, slots=True)
class RankingLimits:
    """How far each request's ranking may be from the original's. Needs no labels.

    A limit that is None is not held; the number is stated all the same.

    Attributes:
        top_k: k of the overlap.
        overlap: Largest loss of the mean share of the original's first k that are still there.
        overlap_worst: The same, of the mean over the worst tenth of the requests.
        kendall: Largest loss of the mean of Kendall's τ: 1 - τ.
        kendall_worst: The same, of the mean over the worst tenth of the requests.
        resamples: Of the bootstrap over requests.
        cannot_tell: As in `QualityLimits`.
    """

    top_k: int = 10
    overlap: float | None = None
    overlap_worst: float | None = None
    kendall: float | None = None
    kendall_worst: float | None = None
    resamples: int = 1000
    cannot_tell: CannotTell = "block"

    @property
    def by_name(self) -> dict[str, float | None]:
        """The limit of each number."""
        names = ("overlap", "overlap_worst", "kendall", "kendall_worst")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class SliceLimits:
    """What a slice may lose: a multiple of what the whole may.

    Attributes:
        factor: Each limit of `QualityLimits`, and the one of Kendall's mean τ, times this.
        also: Slices beside the usual ones, as `rankers.evaluation.cut_slice` takes them.
        usual: Whether the usual ones are looked at: rare items, cold users, long histories, few and
            many candidates.
        least_requests: A slice of fewer requests is named, not judged.
        cannot_tell: As in `QualityLimits`, but letting pass by default: a slice is always smaller
            than the whole.
    """

    factor: float = 10.0
    also: tuple[str, ...] = ()
    usual: bool = True
    least_requests: int = 30
    cannot_tell: CannotTell = "pass"


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The limits of all gates."""

    parity: ParityLimits = field(default_factory=ParityLimits)
    quality: QualityLimits = field(default_factory=QualityLimits)
    ranking: RankingLimits = field(default_factory=RankingLimits)
    slices: SliceLimits = field(default_factory=SliceLimits)

    def to_json(self) -> dict[str, Any]:
        """Return the limits as JSON-ready data."""
        return {each.name: asdict(getattr(self, each.name)) for each in fields(self)}


_TABLES: dict[str, type[Any]] = {
    "parity": ParityLimits,
    "quality": QualityLimits,
    "ranking": RankingLimits,
    "slices": SliceLimits,
}


def gate_limits(gates: Any) -> GateLimits:
    """Read the limits of the gates, from a recipe's ``gates`` table or the same as JSON.

    Raises:
        UserError: A name is unknown or a limit is not a number.
    """
    if not isinstance(gates, dict):
        raise UserError(f"'gates' is a table: {', '.join(f'[gates.{each}]' for each in _TABLES)}")
    only(gates, _TABLES, "[gates]")
    read = {
        name: _limits(kind, gates.get(name, {}), f"[gates.{name}]")
        for name, kind in _TABLES.items()
    }
    return GateLimits(**read)


def only(data: dict[str, Any], known: Any, where: str) -> None:
    """Check that ``data`` has no names but the ``known`` ones.

    Raises:
        UserError: It has; the message names the nearest.
    """
    for name in data:
        if name not in known:
            raise UserError(f"{where} has no {name!r}; {nearest(name, known)}")


def _limits(kind: type[Any], data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise UserError(f"{where} is a table")
    only(data, [each.name for each in fields(kind)], where)
    defaults = {each.name: getattr(kind(), each.name) for each in fields(kind)}
    return kind(**{name: _read(name, x, defaults[name], where) for name, x in data.items()})


def _read(name: str, value: Any, default: Any, where: str) -> Any:
    if name == "candidates":
        if not isinstance(value, list) or not value or not all(is_count(x) for x in value):
            raise UserError(f"{where} candidates is {value!r}; expected whole numbers from 1")
        return tuple(value)
    if name == "also":
        return _metrics(value, where) if isinstance(default, dict) else _names(value, where)
    if name == "cannot_tell":
        expected, fits = "'block' or 'pass'", value in ("block", "pass")
    elif isinstance(default, bool):
        expected, fits = "true or false", isinstance(value, bool)
    elif isinstance(default, int):
        expected, fits = "a whole number from 1", is_count(value)
    else:  # JSON has null for a limit that is not held; TOML leaves it out
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        expected, fits = "a number, 0 or more", number or (value is None and default is None)
    if not fits:
        raise UserError(f"{where} {name} is {value!r}; expected {expected}")
    return value


def _metrics(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise UserError(f"{where} also is {value!r}; expected a table of metrics and limits")
    for name, limit in value.items():
        check_metric(name)
        _read(name, limit, 0.0, f"{where} also")
    return value


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UserError(f"{where} also is {value!r}; expected a list of slices, as ['price=9..']")
    return tuple(value)


def is_count(value: object) -> bool:
    """Whether a value is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
