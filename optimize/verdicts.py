"""Verdicts: what a gate decided about an artifact, and on which numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["passed", "failed", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate decided, with the numbers it decided on.

    Attributes:
        gate: The gate's name, such as ``parity``.
        passed: Whether the artifact goes further.
        reason: One line a person can act on.
        numbers: What was measured, and the limits it was held against.
        cannot_tell: Whether there is too little data to tell. Such a verdict has not passed, unless
            the recipe says so.
    """

    gate: str
    passed: bool
    reason: str
    numbers: dict[str, Any]
    cannot_tell: bool = False

    @property
    def outcome(self) -> Outcome:
        """Which of the three it is, whether or not it stops the artifact."""
        if self.cannot_tell:
            return "cannot tell"
        return "passed" if self.passed else "failed"

    @property
    def word(self) -> str:
        """The decision in a word or two, as reports print it."""
        if self.cannot_tell:
            return "passed, though it CANNOT TELL" if self.passed else "CANNOT TELL"
        return "passed" if self.passed else "FAILED"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__slots__}
