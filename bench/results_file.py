"""A results file: whatever a command of the bench found, whole, with the command that found it.

Pages and pictures are made from these files alone. What can be derived from the measurements is
computed again when a file is read.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bench.attribution import Split, pack_splits, unpack_splits
from bench.capacity_curve import Capacity
from bench.compare import Comparison
from bench.crossover import Crossover
from bench.demo_report import Demo
from bench.measurement import KIND, SCHEMA, Measurement
from bench.sweep import Sweep
from rankers.errors import UserError
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Found(Protocol):
    """What a command found."""

    @property
    def measurements(self) -> Sequence[Measurement]:
        """All that was measured for it."""

    def to_json(self) -> dict[str, Any]:
        """Return it whole as JSON-ready data."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Single measurements, as of ``python -m bench run``.

    Attributes:
        measurements: One or more.
        splits: Of traced requests of the first, where the time went; may be empty.
    """

    measurements: tuple[Measurement, ...]
    splits: tuple[Split, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as JSON-ready data."""
        data: dict[str, Any] = {"measurements": [each.to_json() for each in self.measurements]}
        return data | ({"splits": pack_splits(self.splits)} if self.splits else {})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Runs:
        """Read what `to_json` wrote."""
        return cls(
            tuple(Measurement.from_json(each) for each in data["measurements"]),
            unpack_splits(data["splits"]) if "splits" in data else (),
        )


KINDS: dict[str, type[Runs | Comparison | Capacity | Crossover | Sweep | Demo]] = {
    KIND: Runs,
    "rankserve-comparison": Comparison,
    "rankserve-capacity": Capacity,
    "rankserve-crossover": Crossover,
    "rankserve-sweep": Sweep,
    "rankserve-demo": Demo,
}


@dataclass(frozen=True, slots=True)
class ResultsFile:
    """A file that was read.

    Attributes:
        path: Where it lies.
        sha256: Of its bytes: pictures say which file they were drawn from.
        found: What it holds.
    """

    path: Path
    sha256: str
    found: Found

    @property
    def commands(self) -> tuple[str, ...]:
        """What reproduces it: one command, as a rule."""
        return tuple(dict.fromkeys(each.command for each in self.found.measurements))


def results_json(found: Found) -> dict[str, Any]:
    """Return what a results file holds of something that was found.

    Raises:
        KeyError: It is of no known kind.
    """
    kind = {of: name for name, of in KINDS.items()}[type(found)]  # type: ignore[index]
    return {"kind": kind, "schema": SCHEMA} | found.to_json()


def save_results(found: Found, path: Path) -> None:
    """Write what was found to a JSON file, all or nothing."""
    data = results_json(found)
    write_atomically(path, json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def save_measurements(measurements: Sequence[Measurement], path: Path) -> None:
    """Write single measurements to one JSON file, all or nothing."""
    save_results(Runs(tuple(measurements)), path)


def load_results(path: Path) -> ResultsFile:
    """Read a results file of any kind.

    Raises:
        UserError: The file is missing, damaged, something else, or of another version.
    """
    try:
        content = path.read_bytes()
        data = json.loads(content)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as measurements: {error}") from error
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind not in KINDS:
        raise UserError(
            f"{path}: not a file of measurements: its kind, {kind!r}, is none of {', '.join(KINDS)}"
        )
    if data.get("schema") != SCHEMA:
        raise UserError(
            f"{path}: schema {data.get('schema')}; this rankserve reads {SCHEMA}: "
            "upgrade it, or measure again"
        )
    try:
        found = KINDS[kind].from_json(data)
    except KeyError as error:
        raise UserError(f"{path}: damaged: {error} is missing; measure again") from error
    except (
        TypeError, ValueError, AttributeError, IndexError, UserError, binascii.Error, zlib.error,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: damaged: {error}; measure again") from error
    return ResultsFile(path, hashlib.sha256(content).hexdigest(), found)


def load_measurements(path: Path) -> tuple[Measurement, ...]:
    """Read all measurements of a results file of any kind.

    Raises:
        UserError: As for `load_results`.
    """
    return tuple(load_results(path).found.measurements)
