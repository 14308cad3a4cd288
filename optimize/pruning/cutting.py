"""Takes neurons out of a graph, and lets what is left stand in for them.

The inputs of a layer that stay foretell those that go, by least squares on calibration requests;
their share goes to the weights of those that stay, and the mean of the rest to the bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.pruning.allocation import regular

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from optimize.flat_graph import FlatGraph
    from optimize.pruning.coupling import Coupling, Layer
    from optimize.pruning.statistics import LayerStatistics


def cut(
    graph: FlatGraph,
    coupling: Coupling,
    chosen: Mapping[int, set[int]],
    statistics: Mapping[str, LayerStatistics] | None,
) -> None:
    """Take neurons out, in place.

    Args:
        graph: That the coupling was found in.
        coupling: Of the graph; it holds no more afterwards.
        chosen: By the number of a group, the numbers of neurons that go.
        statistics: Of the layers; None to let nothing stand in for what goes.
    """
    gone: dict[tuple[str, int], set[int]] = {}
    for number, neurons in chosen.items():
        for neuron in neurons:
            for where, places in coupling.groups[number].neurons[neuron].items():
                gone.setdefault(where, set()).update(places)
    if statistics is not None:
        for layer in coupling.layers:
            if out := gone.get((layer.key, 1)):
                _stand_in(graph, layer, out, statistics[layer.key])
    _shorten_sizes(coupling, gone)
    # In one order, for one program: of a set of names it would be another in every process.
    for key in dict.fromkeys(key for key, _ in gone):
        held = parameter(graph, key)
        value = held.detach()
        for axis in range(value.dim()):
            if out := gone.get((key, axis)):
                stay = [x for x in range(value.shape[axis]) if x not in out]
                value = value.index_select(axis, torch.tensor(stay))
        _replace(graph, coupling.aliases[key], held, value.contiguous())
    graph.module.recompile()


def _shorten_sizes(coupling: Coupling, gone: Mapping[tuple[str, int], set[int]]) -> None:
    """Change the numbers of channels that nodes name as sizes."""
    neurons = {coupling.places[where][place] for where, places in gone.items() for place in places}
    for node, named in coupling.sizes.items():
        sizes: Any = list(node.args[named.argument])  # type: ignore[arg-type]
        sizes[named.place] -= sum(each in neurons for each in named.channels)
        node.update_arg(named.argument, sizes)


def _stand_in(graph: FlatGraph, layer: Layer, out: set[int], seen: LayerStatistics) -> None:
    weight = parameter(graph, layer.key)
    bias = None if layer.bias is None else parameter(graph, layer.bias)
    gone = torch.tensor(sorted(out))
    stay = torch.tensor([x for x in range(weight.shape[1]) if x not in out])
    spread = regular(seen.spread(centred=bias is not None))
    # What goes, of what stays: [stay, gone].
    shares = torch.linalg.solve(spread[stay][:, stay], spread[stay][:, gone])
    with torch.no_grad():
        lost = weight[:, gone].double()
        moved = weight[:, stay].double() + lost @ shares.T
        weight[:, stay] = moved.to(weight.dtype)
        weight[:, gone] = 0
        if bias is not None:
            rest = seen.mean[gone] - shares.T @ seen.mean[stay]
            bias += (lost @ rest).to(bias.dtype)


def parameter(graph: FlatGraph, name: str) -> Tensor:
    """Return the parameter or constant that a graph holds by a name."""
    value: Any = graph.module
    for part in name.split("."):
        value = getattr(value, part)
    held: Tensor = value
    return held


def _replace(graph: FlatGraph, names: tuple[str, ...], held: Tensor, value: Tensor) -> None:
    """Give all names of a parameter a new value."""
    new = torch.nn.Parameter(value) if isinstance(held, torch.nn.Parameter) else value
    for name in names:
        owner, _, attribute = name.rpartition(".")
        module = graph.module.get_submodule(owner)
        delattr(module, attribute)
        if isinstance(new, torch.nn.Parameter):
            module.register_parameter(attribute, new)
        else:
            module.register_buffer(attribute, new)
