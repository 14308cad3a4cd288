"""A walk over a graph in order, and what it has found of channels so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optimize.pruning.channels import Carried, Channels, NamedSize

if TYPE_CHECKING:
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph


@dataclass
class Walk:
    """A walk over a graph in order; it is spent when the graph has been walked.

    Attributes:
        graph: Of either layout.
        shapes: Of values and parameters, at a few rows.
        channels: All that there are so far.
        carried: What values have of them.
        layers: Products with a held weight so far.
        sizes: See `optimize.pruning.coupling.Coupling`.
        heads: Whether heads of attention may go.
        attention: Of each product over heads, the channels of its heads.
    """

    graph: FlatGraph
    shapes: dict[Node, tuple[int, ...]]
    channels: Channels = field(default_factory=Channels)
    carried: dict[Node, Carried] = field(default_factory=dict)
    layers: list[Node] = field(default_factory=list)
    sizes: dict[Node, NamedSize] = field(default_factory=dict)
    heads: bool = True
    attention: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parameters: dict[tuple[str, int], tuple[int, ...]] = {}
        self.names: dict[str, dict[str, None]] = {}
        self._keys: dict[Any, str] = {}
        self._read: set[tuple[Node, Node]] = set()

    def rank(self, node: Node) -> int:
        """Return how many dimensions a value has."""
        return len(self.shapes[node])

    def key(self, source: Node) -> str:
        """Return what stands for a parameter whatever names it has."""
        held = self.graph.held(source)
        if held is None:
            raise AssertionError(f"{source} holds no parameter")
        same = (held.data_ptr(), held.shape, held.stride())
        name = str(source.target)
        key = self._keys.setdefault(same, name)
        self.names.setdefault(key, {})[name] = None
        return key

    def of_parameter(self, source: Node, axis: int) -> tuple[int, ...]:
        """Return the channels of a parameter's dimension."""
        where = (self.key(source), axis)
        if where not in self.parameters:
            self.parameters[where] = self.channels.new(self.shapes[source][axis])
        return self.parameters[where]

    def known(self, source: Node, reader: Node) -> None:
        """Remember that it is known how a node reads a parameter."""
        self._read.add((source, reader))

    def hold(self, node: Node) -> Carried | None:
        """Let all channels that a node reads stay; its value has none."""
        for each in node.all_input_nodes:
            if each in self.carried:
                self.channels.fix(self.carried[each].channels, f"read by {name_of(node)}")
        return None

    def hold_unknown(self) -> None:
        """Let the channels of parameters stay that are read in a way that is not known."""
        for source in self.graph.module.graph.find_nodes(op="get_attr"):
            if self.graph.held(source) is None:
                continue
            key = self.key(source)
            for reader in source.users:
                if (source, reader) in self._read:
                    continue
                for (of, _), channels in self.parameters.items():
                    if of == key:
                        self.channels.fix(channels, f"its weight is read by {reader.target} too")


def name_of(node: Node) -> str:
    """Return what an operator is called."""
    return str(node.target).removeprefix("aten.").partition(".")[0]
