"""Which neurons of a graph are one, and which can go.

A neuron is an output of a dense layer with everything that must go with it: elements of biases and
of parameters in between, the outputs of layers whose values are added to it, and the columns of
the weights that read it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from optimize.flat_graph import SIZES, arguments
from optimize.pruning.operators import carry
from optimize.pruning.walk import Walk
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph
    from optimize.pruning.channels import NamedSize

_WRAPPERS = ("rewritten.", "ranker.")
# Rows that are run to see shapes; no size of a ranker is likely to be as many.
_ROWS = 5


@dataclass(frozen=True)
class Layer:
    """A weight that multiplies inputs, wherever it is read.

    Attributes:
        name: As the module calls it.
        key: Of its weight among all parameters.
        nodes: The products.
        element_size: Bytes of one of the weight's values.
        bias: Key of what is added to every one of them and to nothing else; None if there is no
            such.
    """

    name: str
    key: str
    nodes: tuple[Node, ...]
    element_size: int
    bias: str | None


@dataclass(frozen=True)
class Group:
    """Neurons that are alike: each has places in the same dimensions of the same parameters.

    Attributes:
        name: Of the layer that makes them; of several, the first.
        neurons: By neuron, its places: key and dimension of a parameter to indices.
    """

    name: str
    neurons: tuple[dict[tuple[str, int], tuple[int, ...]], ...]

    @property
    def signature(self) -> Counter[tuple[str, int]]:
        """How many places a neuron has in each dimension of each parameter."""
        return Counter({where: len(places) for where, places in self.neurons[0].items()})


@dataclass(frozen=True)
class Heads:
    """What attention has of heads.

    Attributes:
        layers: Names of those that make its queries, keys and values.
        count: Of its heads.
    """

    layers: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Coupling:
    """What was found of a graph.

    Attributes:
        layers: In order.
        groups: Of neurons that can go.
        held: By layer's name, why outputs of it have to stay.
        aliases: By key, all names that a parameter has.
        places: By key and dimension, the neuron of each place, or None where none can go.
        sizes: Nodes that name a number of channels as a size, where, and the neuron of each
            channel.
        attention: That can lose heads, unless its layers are held.
    """

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    held: dict[str, str]
    aliases: dict[str, tuple[str, ...]]
    places: dict[tuple[str, int], tuple[int | None, ...]]
    sizes: dict[Node, NamedSize]
    attention: tuple[Heads, ...]


def find_coupling(
    graph: FlatGraph, *, exclude: Sequence[str] = (), last: bool = False, heads: bool = True
) -> Coupling:
    """Find the neurons of a graph that can go.

    Args:
        graph: Of either layout.
        exclude: Patterns of names of layers whose neurons stay, as in a shell.
        last: Whether what the layer that makes the score reads stays, too.
        heads: Whether whole heads of attention can go.

    Raises:
        UserError: A pattern fits no layer.
    """
    walk = Walk(graph, _shapes(graph), heads=heads)
    for node in graph.nodes:
        if node.op == "call_function" and node.target not in SIZES:
            found = carry(walk, node) if node in walk.shapes else walk.hold(node)
            if found is not None:
                walk.carried[node] = found
        elif node.op == "output":
            for each in node.all_input_nodes:
                if each in walk.carried:
                    walk.channels.fix(walk.carried[each].channels, "it is the score")
    for node in graph.nodes:  # its size as a number, which nothing would change
        if node.target in SIZES:
            walk.hold(node)
    walk.hold_unknown()
    layers = _layers(walk)
    _hold_chosen(walk, layers, exclude, last=last)
    return _coupling(walk, layers)


def layer_name(target: str) -> str:
    """Return what a module calls the layer that has a weight."""
    while target.startswith(_WRAPPERS):
        target = target.partition(".")[2]
    return target.removesuffix(".weight")


def _shapes(graph: FlatGraph) -> dict[Node, tuple[int, ...]]:
    values = graph.run(graph.sample(_ROWS))
    return {node: tuple(x.shape) for node, x in values.items() if isinstance(x, torch.Tensor)}


def _layers(walk: Walk) -> tuple[Layer, ...]:
    products: dict[str, list[Node]] = {}
    for node in walk.layers:
        products.setdefault(walk.key(arguments(node)["weight"]), []).append(node)
    found = []
    for key, nodes in products.items():
        biases = {
            walk.key(bias) if (bias := arguments(each)["bias"]) is not None else None
            for each in nodes
        }
        bias = biases.pop() if len(biases) == 1 else None
        weight = walk.graph.held(arguments(nodes[0])["weight"])
        size = 0 if weight is None else weight.element_size()
        found.append(Layer(layer_name(key), key, tuple(nodes), size, bias))
    reads = Counter(
        walk.key(source)
        for source in walk.graph.module.graph.find_nodes(op="get_attr")
        if walk.graph.held(source) is not None
        for _ in source.users
    )
    return tuple(
        each if each.bias and reads[each.bias] == len(each.nodes) else replace(each, bias=None)
        for each in found
    )


def _hold_chosen(
    walk: Walk, layers: Sequence[Layer], exclude: Sequence[str], *, last: bool
) -> None:
    for pattern in exclude:
        if not any(fnmatchcase(each.name, pattern) for each in layers):
            listed = ", ".join(each.name for each in layers[:8]) or "none"
            raise UserError(f"no dense layer is called {pattern!r}; there are {listed}")
    for each in layers:
        if any(fnmatchcase(each.name, pattern) for pattern in exclude):
            walk.channels.fix(walk.parameters[each.key, 0], "left out by its name")
    if last and layers:
        walk.channels.fix(walk.parameters[layers[-1].key, 1], "the last layer reads it")


def _coupling(walk: Walk, layers: tuple[Layer, ...]) -> Coupling:
    neurons: dict[int, dict[tuple[str, int], list[int]]] = {}
    for where, channels in walk.parameters.items():
        for place, channel in enumerate(channels):
            if not walk.channels.why_fixed(channel):
                spots = neurons.setdefault(walk.channels.root(channel), {})
                spots.setdefault(where, []).append(place)
    made = {(each.key, 0): each.name for each in layers}
    read = {(each.key, 1) for each in layers}
    # Without a layer that reads it, nothing could stand in for it.
    neurons = {
        root: spots
        for root, spots in neurons.items()
        if any(x in made for x in spots) and any(x in read for x in spots)
    }
    alike: dict[frozenset[tuple[tuple[str, int], int]], list[int]] = {}
    for root, spots in neurons.items():
        alike.setdefault(frozenset((x, len(y)) for x, y in spots.items()), []).append(root)
    groups = tuple(
        Group(
            next(name for where, name in made.items() if where in neurons[roots[0]]),
            tuple({x: tuple(y) for x, y in neurons[root].items()} for root in roots),
        )
        for roots in alike.values()
    )
    held = {}
    for each in layers:
        reasons = Counter(
            reason for x in walk.parameters[each.key, 0] if (reason := walk.channels.why_fixed(x))
        )
        if reasons:
            held[each.name] = reasons.most_common(1)[0][0]
    places = {
        where: tuple(root if (root := walk.channels.root(x)) in neurons else None for x in channels)
        for where, channels in walk.parameters.items()
    }
    sizes = {
        node: replace(x, channels=tuple(walk.channels.root(each) for each in x.channels))
        for node, x in walk.sizes.items()
    }
    aliases = {x: tuple(y) for x, y in walk.names.items()}
    return Coupling(layers, groups, held, aliases, places, sizes, _attention(walk, layers))


def _attention(walk: Walk, layers: Sequence[Layer]) -> tuple[Heads, ...]:
    """Return attention by its heads; its products with keys and with values have the same."""
    found = {}
    for channels in walk.attention:
        heads = {walk.channels.root(each) for each in channels}
        makers = tuple(
            each.name
            for each in layers
            if not heads.isdisjoint(map(walk.channels.root, walk.parameters[each.key, 0]))
        )
        if makers:
            found[frozenset(heads)] = Heads(makers, len(heads))
    return tuple(found.values())
