"""Workloads as small TOML files: what is to be sent to whatever is measured.

::

    description = "a person waits"
    distinct = 500                  # different requests before they come again

    [candidates]                    # of a request: fixed, uniform, lognormal or histogram
    kind = "uniform"
    min = 20
    max = 50

    [items]                         # and [users]: which entities there are
    working_set = 10_000            # without it, as many as the largest table has rows
    zipf = 1.1

    [sequences]                     # lengths of histories and texts; without it, full
    kind = "lognormal"
    median = 20
    sigma = 0.8

or, for requests that were recorded, ``log = "requests.parquet"`` beside the file, with
``[candidates]`` only if their number is to be another one (of kind ``fixed``).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.distributions import Fixed, read_counts
from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.distributions import Counts

_KEYS = ("description", "distinct", "log", "candidates", "users", "items", "sequences")
_SIDE_KEYS = ("working_set", "zipf")


@dataclass(frozen=True, slots=True)
class Side:
    """The users, or the items, that requests are about.

    Attributes:
        working_set: How many different ones; None: as many as the largest table has rows.
        zipf: The exponent of their popularity; 0: all alike.
    """

    working_set: int | None = None
    zipf: float = 0.0

    def __post_init__(self) -> None:
        size = self.working_set
        if size is not None and not (isinstance(size, int) and 1 <= size <= 20_000_000):
            raise UserError(f"working_set is {size!r}; it is a whole number from 1 to 20,000,000")
        if not isinstance(self.zipf, int | float) or not 0 <= self.zipf <= 5:
            raise UserError(f"zipf is {self.zipf!r}; it is a number from 0 to 5")


@dataclass(frozen=True, slots=True)
class WorkloadRecipe:
    """How to make a workload, for any signature.

    Attributes:
        name: What reports call it.
        candidates: Of each request; None: as recorded in the log.
        description: In a line, what it stands for.
        distinct: How many different requests there are.
        log: Recorded requests, in place of made-up ones.
        users: Which users there are.
        items: Which items.
        sequences: How long histories and texts are; None: as long as their feature.
    """

    name: str
    candidates: Counts | None
    description: str = ""
    distinct: int = 500
    log: Path | None = None
    users: Side = Side()
    items: Side = Side()
    sequences: Counts | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.distinct, int) or not 1 <= self.distinct <= 100_000:
            raise UserError(f"distinct is {self.distinct!r}; it is a whole number up to 100,000")
        if self.log is None and self.candidates is None:
            raise UserError("[candidates] is missing: say how many a request has")
        if self.log is not None and not isinstance(self.candidates, Fixed | None):
            raise UserError("with a log, [candidates] is of kind 'fixed', or left out")


def load_recipe(name: str) -> WorkloadRecipe:
    """Read a built-in workload by its name, or a TOML file by its path.

    Raises:
        UserError: There is none, or the file is wrong; the message names the file and the key.
    """
    if name.endswith(".toml"):
        return _read(Path(name))
    built_in = built_in_files()
    if name not in built_in:
        raise UserError(
            f"no workload {name!r}: it is neither a .toml file nor built in; "
            f"{nearest(name, built_in)}"
        )
    return _read(built_in[name])


def built_in_files() -> dict[str, Path]:
    """Return the workloads that come with the bench, by name."""
    folder = Path(str(resources.files("bench") / "workloads"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _read(path: Path) -> WorkloadRecipe:
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a workload: {error}") from error
    try:
        return _recipe(data, path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _recipe(data: Mapping[str, Any], path: Path) -> WorkloadRecipe:
    _known(data, _KEYS, "a workload")
    settings = {key: data[key] for key in ("description", "distinct") if key in data}
    for key in ("users", "items"):
        if key in data:
            settings[key] = _side(_table(data, key))
    for key in ("candidates", "sequences"):
        if key in data:
            try:
                settings[key] = read_counts(_table(data, key))
            except UserError as error:
                raise UserError(f"[{key}] {error}") from error
    if "log" in data:
        unused = [key for key in ("users", "items", "sequences") if key in data]
        if unused:
            raise UserError(f"with a log, [{unused[0]}] has nothing to say: leave it out")
        settings["log"] = path.parent / str(data["log"])
    return WorkloadRecipe(name=path.stem, **{"candidates": None} | settings)


def _side(data: Mapping[str, Any]) -> Side:
    _known(data, _SIDE_KEYS, "[users] or [items]")
    return Side(**data)


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data[key]
    if not isinstance(value, dict):
        raise UserError(f"{key} is {value!r}; it is a table, [{key}]")
    return value


def _known(data: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in data:
        if key not in known:
            raise UserError(f"{where} has no key {key!r}; {nearest(key, known)}")
