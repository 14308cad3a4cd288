"""Put a graph's operators into groups that a person would tell as one.

A linear layer, a product, a lookup or a concatenation begins a group; what is small goes with what
it follows or with what alone reads it. Groups never read each other in a circle. Lookups of many
fields that are read together become one group, and so does each layer of an encoder; if there are
still too many groups, those of one module do, the deepest modules first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from optimize.diagnosis.trace import place_of, tensors
from optimize.flat_graph import aten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Side

# More are hard to read at once.
MOST = 24
_HEAVY = {
    aten.linear.default, aten.matmul.default, aten.bmm.default, aten.mm.default,
    aten.addmm.default, aten.scaled_dot_product_attention.default, aten.embedding.default,
    aten.embedding_bag.padding_idx, aten.conv1d.default, aten.conv2d.default,
}  # fmt: skip
_JOINS = {aten.cat.default, aten.stack.default}


@dataclass(eq=False)
class NodeGroup:
    """Nodes that are drawn as one.

    Attributes:
        nodes: In the graph's order.
        side: Of all of them.
        path: The module that they come from; None if none is known.
        times: How many groups alike it was made of.
    """

    nodes: list[Node]
    side: Side
    path: str | None
    times: int = 1
    sources: set[NodeGroup] = field(default_factory=set)
    readers: set[NodeGroup] = field(default_factory=set)

    @property
    def is_column(self) -> bool:
        """Whether it holds columns of a request."""
        return self.nodes[0].op == "placeholder"

    @property
    def is_heavy(self) -> bool:
        """Whether it does something that is worth a group of its own."""
        return any(node.target in _HEAVY for node in self.nodes)


def group_nodes(
    graph: FlatGraph, sides: Mapping[Node, Side], values: Mapping[Node, Any], most: int = MOST
) -> list[NodeGroup]:
    """Return a graph's tensors in groups, each after those that it reads.

    Args:
        graph: Flat.
        sides: Of its values; a group is of one side.
        values: Of some run: what is no tensor is no part of the picture.
        most: How many groups there may be before those of one module become one.
    """
    found = _Groups(graph, sides, values)
    for node in found.drawn:
        found.join_producer(node)
    found.join_only_readers()
    found.join_alike()
    found.join_layers()
    found.join_modules(most)
    found.join_columns()
    return found.in_order()


class _Groups:
    """The groups so far, and which one each node is in."""

    def __init__(
        self, graph: FlatGraph, sides: Mapping[Node, Side], values: Mapping[Node, Any]
    ) -> None:
        self._place = {node: place for place, node in enumerate(graph.nodes)}
        self.drawn = [
            node
            for node in graph.nodes
            if node.op in {"placeholder", "call_function"} and tensors(values[node])
        ]
        self._of: dict[Node, NodeGroup] = {}
        for node in self.drawn:
            self._of[node] = NodeGroup([node], sides[node], _path(node))
        for node in self.drawn:
            for source in node.all_input_nodes:
                if source in self._of:
                    self._link(self._of[source], self._of[node])

    def join_producer(self, node: Node) -> None:
        """Let what is small go with the last of its side that it reads, if a person would."""
        own = self._of[node]
        if node.op == "placeholder" or node.target in _HEAVY | _JOINS:
            return
        for source in sorted(own.sources, key=self._last, reverse=True):
            fits = source.side == own.side and not source.is_column
            if fits and _belongs(own.path, source.path) and self._can_join(source, own):
                self._join(source, own)
                return

    def join_only_readers(self) -> None:
        """Let what is small go with what reads it, where that is one group of its side."""
        for group in reversed(self.in_order()):
            if group.is_column or group.is_heavy or len(group.readers) != 1:
                continue
            (reader,) = group.readers
            if group.side in {reader.side, "none"}:
                self._join(reader, group)

    def join_alike(self) -> None:
        """Make one of groups that do the same to columns and are read by the same."""

        def alike(group: NodeGroup) -> object:
            if group.is_column or not all(each.is_column for each in group.sources):
                return None
            doing = tuple(str(node.target) for node in group.nodes)
            module = (group.path or "").rpartition(".")[0]
            return group.side, doing, module, frozenset(group.readers)

        self._join_by(alike)

    def join_columns(self) -> None:
        """Make one of columns that are read by the same."""
        self._join_by(
            lambda group: (group.side, frozenset(group.readers)) if group.is_column else None
        )

    def join_layers(self) -> None:
        """Make one of the groups of each member of a list of modules, as an encoder's layers."""
        self._join_modules(_layer)

    def join_modules(self, most: int) -> None:
        """Make one of the groups of a module, deepest modules first, until they are few."""
        depth = max((_depth(each.path) for each in self._all()), default=0)
        while depth > 1 and sum(not each.is_column for each in self._all()) > most:
            depth -= 1
            self._join_modules(partial(_cut, depth=depth))

    def _join_modules(self, module_of: Callable[[str], str | None]) -> None:
        """Let each group go with what reads it where both are of one module."""
        for group in self.in_order():
            module = None if group.is_column or not group.path else module_of(group.path)
            if module is None:
                continue
            for reader in sorted(group.readers, key=self._last):
                same = reader.side == group.side and _within(reader.path, module)
                if same and self._can_join(group, reader):
                    self._join(reader, group)
                    reader.path = module
                    break

    def in_order(self) -> list[NodeGroup]:
        """Return the groups, each after those that it reads."""
        waiting = {group: len(group.sources) for group in self._all()}
        ready = [group for group, count in waiting.items() if not count]
        ordered = []
        while ready:
            group = min(ready, key=self._last)
            ready.remove(group)
            ordered.append(group)
            for reader in group.readers:
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready.append(reader)
        return ordered

    def _all(self) -> dict[NodeGroup, None]:
        return dict.fromkeys(self._of.values())

    def _last(self, group: NodeGroup) -> int:
        return self._place[group.nodes[-1]]

    def _link(self, source: NodeGroup, reader: NodeGroup) -> None:
        if source is not reader:
            source.readers.add(reader)
            reader.sources.add(source)

    def _can_join(self, first: NodeGroup, second: NodeGroup) -> bool:
        """Whether there is no way from the first to the second but the direct one."""
        seen: set[NodeGroup] = set()
        waiting = [each for each in first.readers if each is not second]
        while waiting:
            group = waiting.pop()
            if group is second:
                return False
            if group not in seen:
                seen.add(group)
                waiting.extend(group.readers)
        return True

    def _join(self, kept: NodeGroup, gone: NodeGroup) -> None:
        kept.nodes = sorted((*kept.nodes, *gone.nodes), key=self._place.__getitem__)
        kept.path = gone.path if kept.path is None else kept.path
        for node in gone.nodes:
            self._of[node] = kept
        for source in gone.sources:
            source.readers.discard(gone)
            self._link(source, kept)
        for reader in gone.readers:
            reader.sources.discard(gone)
            self._link(kept, reader)

    def _join_by(self, key: Callable[[NodeGroup], object]) -> None:
        """Make one of all groups of one key; those of None stay apart."""
        kept: dict[object, NodeGroup] = {}
        for group in self.in_order():
            found = key(group)
            if found is None:
                continue
            if found in kept:
                kept[found].times += group.times
                kept[found].path = _common(kept[found].path, group.path)
                self._join(kept[found], group)
            else:
                kept[found] = group


def _path(node: Node) -> str | None:
    """Return the module that a node comes from; empty for the ranker itself; None if unknown."""
    return place_of(node).module if node.meta.get("nn_module_stack") else None


def _belongs(path: str | None, group: str | None) -> bool:
    """Whether an operator of one module reads as a part of a group of another."""
    if path is None or group is None:
        return True
    return _within(group, path) or path.rpartition(".")[0] == group.rpartition(".")[0]


def _within(path: str | None, module: str | None) -> bool:
    """Whether a path is a module's, or one in it."""
    if path is None or module is None:
        return False
    return module in {path, ""} or path.startswith(f"{module}.")


def _common(one: str | None, other: str | None) -> str | None:
    """Return the path that two have in common."""
    if one is None or other is None:
        return one or other
    shared = []
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if a != b:
            break
        shared.append(a)
    return ".".join(shared)


def _depth(path: str | None) -> int:
    return path.count(".") + 1 if path else 0


def _cut(path: str, depth: int) -> str | None:
    """Return the module that many levels down; None for a path that is not as deep."""
    return ".".join(path.split(".")[:depth]) if _depth(path) >= depth else None


def _layer(path: str) -> str | None:
    """Return the first member of a list that a path is, or is in; None if there is none."""
    parts = path.split(".")
    numbered = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbered[0] + 1]) if numbered else None
