"""The branches of a recipe: several ways from one program, of which measuring keeps the best."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

from optimize.artifact import Layout
from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.gate_limits import GateLimits
    from optimize.recipe import StageUse


@dataclass(frozen=True, slots=True)
class Branch:
    """One way on from where a recipe's stages end.

    Attributes:
        name: Of its own among the recipe's branches.
        stages: In order.
        layout: What its artifacts must have; None for any. A branch that would only repeat another,
            since a stage left the layout as it was, ends there.
        gates: The limits that its artifacts are held to; None for the recipe's.
    """

    name: str
    stages: tuple[StageUse, ...]
    layout: Layout | None = None
    gates: GateLimits | None = None


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """How branches are compared.

    Attributes:
        requests: Sent to each, at most.
        seconds: That measuring may take about, over all of them; fewer requests are sent where they
            take longer.
        workload: A name of ``python -m bench workloads`` or a ``.toml`` file, which says how many
            candidates requests have; by default the ranker's evaluation requests are sent.
        threads: Of one call; by default one for each physical core.
        deployable_only: Whether only a format that a server runs without torch is kept; the others
            are measured and shown.
        rivals: Names of branches that are measured and shown, and never kept.
    """

    requests: int = 2000
    seconds: float = 60.0
    workload: str | None = None
    threads: int | None = None
    deployable_only: bool = True
    rivals: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> MeasureOptions:
        """Read a recipe's ``measure`` table, or the same as JSON.

        Raises:
            UserError: A name is unknown, or a value is not of its kind.
        """
        if not isinstance(data, dict):
            raise UserError("'measure' is a table: [measure]")
        for name, value in data.items():
            if name not in _FITS:
                raise UserError(f"[measure] has no {name!r}; {nearest(name, _FITS)}")
            fits, expected = _FITS[name]
            if not fits(value):
                raise UserError(f"[measure] {name} is {value!r}; expected {expected}")
        return cls(**data | {"rivals": tuple(data.get("rivals", ()))})


def parse_branches(
    data: Any,
    uses_of: Callable[[Any], tuple[StageUse, ...]],
    limits_of: Callable[[Any], GateLimits],
) -> tuple[Branch, ...]:
    """Read a recipe's ``branches``.

    Args:
        data: What TOML gives; None if there are none.
        uses_of: Reads a list of stages, whose first reads what the recipe's own end in.
        limits_of: Reads limits of gates.

    Raises:
        UserError: A branch has no name of its own or no stages, or something else is wrong in it.
    """
    if data is None:
        return ()
    if not isinstance(data, list) or not data or not all(isinstance(each, dict) for each in data):
        raise UserError("'branches' are tables: [[branches]], each with a name and stages")
    found: list[Branch] = []
    for entry in data:
        name = entry.get("name")
        if not isinstance(name, str) or not name or name in {each.name for each in found}:
            raise UserError(f"each [[branches]] entry needs a name of its own, not {name!r}")
        try:
            found.append(_branch(name, entry, uses_of, limits_of))
        except UserError as error:
            raise UserError(f"branch {name!r}: {error}") from error
    return tuple(found)


def _branch(
    name: str,
    entry: dict[str, Any],
    uses_of: Callable[[Any], tuple[StageUse, ...]],
    limits_of: Callable[[Any], GateLimits],
) -> Branch:
    for each in entry:
        if each not in {"name", "stages", "layout", "gates"}:
            raise UserError(f"it has no {each!r}; {nearest(each, ('stages', 'layout', 'gates'))}")
    layout = entry.get("layout")
    if layout is not None and layout not in get_args(Layout):
        raise UserError(f"layout is {layout!r}; {nearest(str(layout), get_args(Layout))}")
    gates = limits_of(entry["gates"]) if "gates" in entry else None
    return Branch(name, uses_of(entry.get("stages")), layout, gates)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_number(value)


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


_FITS: dict[str, tuple[Callable[[object], bool], str]] = {
    "requests": (_is_count, "a whole number from 1"),
    "seconds": (_is_number, "a number above 0"),
    "workload": (lambda value: value is None or isinstance(value, str), "a workload's name"),
    "threads": (lambda value: value is None or _is_count(value), "a whole number from 1"),
    "rivals": (_are_names, "a list of branches' names"),
    "deployable_only": (lambda value: isinstance(value, bool), "true or false"),
}
