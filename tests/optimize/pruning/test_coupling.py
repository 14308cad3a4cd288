"""Which neurons go together, which stay, and that cutting what is not read changes nothing."""

from __future__ import annotations

import copy

import layered_rankers
import pytest
import torch

from optimize.artifact import Manifest
from optimize.export import export_ranker
from optimize.pruning.coupling import find_coupling
from optimize.pruning.cutting import cut
from optimize.tables.program import open_graph
from rankers.errors import UserError

MANIFEST = Manifest("layered", "torch", "model.pt2", layered_rankers.SIGNATURE)


@pytest.fixture(scope="module")
def programs():
    return {kind: export_ranker(layered_rankers.ranker(kind)) for kind in layered_rankers.KINDS}


@pytest.fixture
def graph_of(programs):
    return lambda kind: open_graph(copy.deepcopy(programs[kind]), MANIFEST)


def parameters(graph):
    return dict(graph.module.named_parameters())


def widths(graph):
    return {x.name: len(find_coupling(graph).places[x.key, 0]) for x in find_coupling(graph).layers}


@pytest.mark.parametrize("kind", layered_rankers.KINDS)
def test_cutting_neurons_that_no_layer_reads_changes_no_score(kind, graph_of):
    graph = graph_of(kind)
    coupling = find_coupling(graph)
    chosen = {
        number: set(range(0, len(group.neurons), 2)) for number, group in enumerate(coupling.groups)
    }
    read = {layer.key for layer in coupling.layers}
    held = parameters(graph)
    with torch.no_grad():
        for number, neurons in chosen.items():
            for neuron in neurons:
                for (key, axis), places in coupling.groups[number].neurons[neuron].items():
                    if key in read and axis == 1:
                        held[key][:, list(places)] = 0
    columns = graph.sample(40)
    expected = graph.score(columns)
    before = widths(graph)

    cut(graph, coupling, chosen, None)

    torch.testing.assert_close(graph.score(columns), expected, rtol=0, atol=1e-6)
    after = widths(graph)
    gone = sum(before.values()) - sum(after.values())
    assert gone >= sum(map(len, chosen.values())) > 0


def test_layers_that_add_to_one_stream_lose_the_same_neurons(graph_of):
    coupling = find_coupling(graph_of("Residual"))
    stream = next(group for group in coupling.groups if group.name == "into")

    makers = {key for key, axis in stream.signature if axis == 0 and key.endswith("weight")}
    assert makers == {f"ranker.{x}.weight" for x in ("into", "outer.0", "outer.1")}
    assert len(stream.neurons) == 16
    assert {group.name for group in coupling.groups} == {"into", "inner.0", "inner.1"}


def test_columns_of_a_concatenation_are_those_of_its_parts(graph_of):
    coupling = find_coupling(graph_of("Branches"))
    columns = {
        group.name: sorted(
            place for x in group.neurons for place in x.get(("ranker.top.weight", 1), ())
        )
        for group in coupling.groups
    }

    assert columns["left"] == [*range(12)]
    assert columns["right"] == [*range(63, 83)]


def test_a_layer_that_reads_itself_loses_inputs_with_outputs(graph_of):
    coupling = find_coupling(graph_of("Branches"))
    (group,) = (x for x in coupling.groups if ("ranker.twice.weight", 0) in x.signature)

    assert group.neurons[3]["ranker.twice.weight", 0] == group.neurons[3]["ranker.twice.weight", 1]
    assert ("ranker.top.weight", 0) in group.signature


def test_a_cross_layer_stays_and_says_why(graph_of):
    coupling = find_coupling(graph_of("Cross"))

    assert [group.name for group in coupling.groups] == ["deep"]
    assert coupling.held["cross"] == "mul with what no layer makes"


def test_a_stream_through_a_layer_norm_stays_and_the_inner_layer_does_not(graph_of):
    coupling = find_coupling(graph_of("FeedForward"))

    assert [group.name for group in coupling.groups] == ["inner"]
    assert coupling.held["into"] == coupling.held["outer"] == "read by layer_norm"


def test_tables_are_no_layers_and_scores_stay(graph_of):
    for kind in layered_rankers.KINDS:
        coupling = find_coupling(graph_of(kind))
        touched = {key for group in coupling.groups for key, _ in group.signature}
        assert "ranker.table.weight" not in touched
        assert coupling.held[coupling.layers[-1].name] == "read by squeeze"


def test_layers_can_be_left_out_by_name_and_the_last_ones_inputs_too(graph_of):
    graph = graph_of("Plain")

    assert [x.name for x in find_coupling(graph).groups] == ["layers.0", "layers.2"]
    assert [x.name for x in find_coupling(graph, exclude=("*.0",)).groups] == ["layers.2"]
    assert [x.name for x in find_coupling(graph, last=True).groups] == ["layers.0"]


def test_a_pattern_that_fits_no_layer_is_refused_with_those_there_are(graph_of):
    with pytest.raises(UserError, match=r"no dense layer is called 'top\*'; there are layers\.0, "):
        find_coupling(graph_of("Plain"), exclude=("top*",))


def test_a_weight_that_something_else_reads_stays_whole(graph_of):
    graph = graph_of("Plain")
    (source,) = (
        x for x in graph.module.graph.find_nodes(op="get_attr") if x.target.endswith("0.weight")
    )
    (output,) = graph.module.graph.find_nodes(op="output")
    (scores,) = output.args[0]
    with graph.module.graph.inserting_before(output):
        call = graph.module.graph.call_function
        size = call(torch.ops.aten.linalg_norm.default, (source,))
        output.args = ((call(torch.ops.aten.mul.Tensor, (scores, size)),),)
    graph.module.recompile()

    coupling = find_coupling(graph)

    assert [x.name for x in coupling.groups] == ["layers.2"]
    assert "is read by aten.linalg_norm.default too" in coupling.held["layers.0"]


def test_sizes_named_in_the_graph_follow_the_widths(graph_of):
    graph = graph_of("Normalized")
    coupling = find_coupling(graph)
    named = list(coupling.sizes)
    assert named  # Dice goes back to the shape that it had
    number = next(x for x, group in enumerate(coupling.groups) if group.name == "second")

    cut(graph, coupling, {number: set(range(20))}, None)

    assert {node.args[1][-1] for node in named} == {4}
    assert torch.isfinite(graph.score(graph.sample(7))).all()
