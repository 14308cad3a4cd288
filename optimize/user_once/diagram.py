"""A graph as a person reads it: a few dozen groups of operators, whose each is, what flows between.

Values only, and no torch: a report draws them from an artifact's ``user-once.json``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from optimize.flat_graph import Side

Kind = Literal["column", "operators"]


@dataclass(frozen=True, slots=True)
class Value:
    """What flows from one group to another.

    Attributes:
        name: Of the node that makes it.
        shape: Of one row: without its dimension of rows.
        bytes_per_row: Its size for one row.
    """

    name: str
    shape: tuple[int, ...]
    bytes_per_row: int


@dataclass(frozen=True, slots=True)
class Group:
    """Operators that a person would tell as one.

    Attributes:
        label: The module that they come from, or what they mainly do; of columns, their names.
        kind: Columns of a request, or operators.
        side: Whose features they depend on; ``none`` for neither's.
        operators: The names of those that compute something, in order; of columns, the features'.
        times: How many groups alike this one stands for, such as the lookups of as many fields.
        shape: Of one row of its last value.
        multiply_adds: Of one request.
        gathered_bytes: Read from tables for one request.
    """

    label: str
    kind: Kind
    side: Side
    operators: tuple[str, ...]
    times: int
    shape: tuple[int, ...]
    multiply_adds: int
    gathered_bytes: int


@dataclass(frozen=True, slots=True)
class Edge:
    """What one group reads of another.

    Attributes:
        source: The place of the group that makes it.
        target: The place of the group that reads it.
        values: What is read.
        crosses: Whether it comes from the user's side to where candidates differ: at the frontier
            each value is repeated.
    """

    source: int
    target: int
    values: tuple[Value, ...]
    crosses: bool

    @property
    def bytes_per_row(self) -> int:
        """The size of one row of all its values."""
        return sum(each.bytes_per_row for each in self.values)


@dataclass(frozen=True, slots=True)
class Diagram:
    """A whole graph.

    Attributes:
        groups: Each after those that it reads; the last gives the scores.
        edges: Between them.
    """

    groups: tuple[Group, ...]
    edges: tuple[Edge, ...]

    @property
    def frontier(self) -> tuple[Value, ...]:
        """The values that cross it, each once."""
        crossing = (value for each in self.edges if each.crosses for value in each.values)
        return tuple({value.name: value for value in crossing}.values())

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Diagram:
        """Read what `to_json` wrote."""
        return cls(
            groups=tuple(Group(**_tuples(each, "operators", "shape")) for each in data["groups"]),
            edges=tuple(
                Edge(
                    **each
                    | {"values": tuple(Value(**_tuples(one, "shape")) for one in each["values"])}
                )
                for each in data["edges"]
            ),
        )


def _tuples(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return data | {name: tuple(data[name]) for name in names}
