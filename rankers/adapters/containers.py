"""Features in one dictionary or one list, for modules that take all of them as one argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankers.adapters.call import Argument, make, reads
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Dictionary(Argument):
    """A dictionary of features: ``forward(features)`` with ``features["user_id"]``.

    Args:
        names: Features under their own names.
        renamed: Features, or other arguments, under the keys that the module reads.
    """

    def __init__(self, /, *names: str, **renamed: str | Argument) -> None:
        self.entries: dict[str, str | Argument] = {name: name for name in names}
        self.entries |= renamed
        if len(self.entries) < len(names) + len(renamed) or not self.entries:
            raise UserError(
                f"the dictionary's keys are {[*names, *renamed]}; expected one or more, each once"
            )
        self.reads = tuple(name for each in self.entries.values() for name in reads(each))

    def make(self, columns: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the dictionary."""
        return {key: make(each, columns) for key, each in self.entries.items()}


class Listed(Argument):
    """A list of features: ``forward(inputs)`` with ``inputs[0]``.

    Args:
        entries: Features, or other arguments, in order.
    """

    def __init__(self, *entries: str | Argument) -> None:
        self.entries = entries
        self.reads = tuple(name for each in entries for name in reads(each))

    def make(self, columns: Mapping[str, Tensor]) -> list[Any]:
        """Return the list."""
        return [make(each, columns) for each in self.entries]
