"""Prune a program's hidden neurons to a budget of multiply-adds, in rounds, with fine-tuning."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optimize.finetuning.distil import distil
from optimize.finetuning.trainable import trainable_module
from optimize.pruning.allocation import Budget, choose, least_share, multiply_adds, sizes_of
from optimize.pruning.coupling import find_coupling
from optimize.pruning.cutting import cut
from optimize.pruning.low_rank import factor, layers_to_factor
from optimize.pruning.report import HeadsReport, LayerReport, heads_reports
from optimize.pruning.statistics import layer_statistics
from optimize.tables.program import open_graph
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from optimize.artifact import Artifact
    from optimize.finetuning.settings import DistilReport, DistilSettings
    from optimize.flat_graph import FlatGraph
    from optimize.pruning.coupling import Coupling
    from optimize.pruning.statistics import LayerStatistics
    from rankers.requests import RequestBatch

# Of its rank that a layer has to lose to be made two.
_WORTH = 0.1


@dataclass(frozen=True)
class PruneSettings:
    """How far, and how, a program is pruned.

    Attributes:
        budget: The share of the dense layers' multiply-adds that may stay.
        rounds: In how many steps of equal ratio.
        multiple: Widths are whole multiples of it.
        min_width: The narrowest a layer gets.
        exclude: Patterns of names of layers whose neurons stay, as in a shell.
        keep_last: Whether what the layer that makes the score reads stays.
        low_rank: Whether layers whose outputs have to stay may become two of a lower rank.
        heads: Whether whole heads of attention may go.
        tune_each: Whether each round is fine-tuned with its share of the steps, and not the last
            one with all.
        stand_in: Whether what stays of a layer's inputs stands in for what goes.
    """

    budget: float = 0.5
    rounds: int = 4
    multiple: int = 8
    min_width: int = 8
    exclude: tuple[str, ...] = ()
    keep_last: bool = False
    low_rank: bool = False
    heads: bool = True
    tune_each: bool = False
    stand_in: bool = True


@dataclass(frozen=True)
class Pruned:
    """What came of it.

    Attributes:
        layers: All dense layers.
        attention: What can lose heads.
        tuned: Of each round that was fine-tuned, what that did.
    """

    layers: tuple[LayerReport, ...]
    attention: tuple[HeadsReport, ...]
    tuned: tuple[DistilReport, ...]


def prune(
    artifact: Artifact,
    requests: RequestBatch,
    settings: PruneSettings,
    tuning: DistilSettings,
) -> tuple[FlatGraph, Pruned]:
    """Prune an artifact's program.

    Args:
        artifact: Of the format ``torch``, of either layout.
        requests: Calibration requests.
        settings: How far, and how.
        tuning: Of the fine-tuning; its steps are those of all rounds.

    Raises:
        UserError: The budget cannot be met; the message says what can, and what has to stay.
    """
    from optimize.torch_program import load_program

    manifest = artifact.manifest
    graph = open_graph(load_program(artifact.model_path), manifest)
    teacher = trainable_module(load_program(artifact.model_path))
    before = _coupling(graph, settings)
    if not before.layers:
        return graph, Pruned((), (), ())
    original = layer_statistics(graph, before.layers, requests, manifest)
    whole = _work(before, original)
    budget = Budget(settings.budget, sum(whole.values()), settings.multiple, settings.min_width)
    factored = _factored(artifact, requests, settings, budget) if settings.low_rank else ()
    pairs = factor(graph, [x for x in before.layers if x.key in factored], original)
    coupling, statistics = before, original
    if pairs:
        coupling = _coupling(graph, settings)
        statistics = layer_statistics(graph, coupling.layers, requests, manifest)
    _check_budget(coupling, statistics, budget, low_rank=settings.low_rank)
    tuned = []
    for number in range(settings.rounds):
        share = settings.budget ** ((number + 1) / settings.rounds)
        chosen, _ = choose(coupling, statistics, replace(budget, keep=share))
        if chosen:
            cut(graph, coupling, chosen, statistics if settings.stand_in else None)
        last = number == settings.rounds - 1
        steps = tuning.steps // settings.rounds if settings.tune_each else 0
        if last:
            steps = tuning.steps - steps * (settings.rounds - 1)
        if steps:
            with plain_answers(graph) as student:
                tuned.append(
                    distil(student, teacher, requests, manifest, replace(tuning, steps=steps))
                )
        coupling = _coupling(graph, settings)
        if not last:
            statistics = layer_statistics(graph, coupling.layers, requests, manifest)
    layers = _reports(before, coupling, whole, pairs)
    return graph, Pruned(layers, heads_reports(before.attention, layers), tuple(tuned))


@contextmanager
def plain_answers(graph: FlatGraph) -> Iterator[nn.Module]:
    """Let a graph answer with scores alone, as a program does, and not with a tuple of them."""
    (output,) = graph.module.graph.find_nodes(op="output")
    before = output.args
    (scores,) = before[0]
    output.args = (scores,)
    graph.module.recompile()
    try:
        yield graph.module
    finally:
        output.args = before
        graph.module.recompile()


def _coupling(graph: FlatGraph, settings: PruneSettings) -> Coupling:
    return find_coupling(
        graph, exclude=settings.exclude, last=settings.keep_last, heads=settings.heads
    )


def _work(coupling: Coupling, statistics: Mapping[str, LayerStatistics]) -> dict[str, float]:
    sizes = {each.key: sizes_of(coupling, each) for each in coupling.layers}
    return multiply_adds(coupling, statistics, sizes)


def _factored(
    artifact: Artifact, requests: RequestBatch, settings: PruneSettings, budget: Budget
) -> tuple[str, ...]:
    """Return the keys of the layers that are worth to be factored, by a try with all of them.

    One that would lose little of its rank is left whole: what the lowest ranks add is lost then for
    next to nothing.
    """
    from optimize.torch_program import load_program

    manifest = artifact.manifest
    graph = open_graph(load_program(artifact.model_path), manifest)
    coupling = _coupling(graph, settings)
    layers = layers_to_factor(coupling, settings.min_width)
    if not layers:
        return ()
    statistics = layer_statistics(graph, coupling.layers, requests, manifest)
    pairs = factor(graph, layers, statistics)
    coupling = _coupling(graph, settings)
    statistics = layer_statistics(graph, coupling.layers, requests, manifest)
    chosen, _ = choose(coupling, statistics, budget)
    gone = {coupling.groups[number].name: len(neurons) for number, neurons in chosen.items()}
    ranks = {each.name: sizes_of(coupling, each)[0] for each in coupling.layers}
    return tuple(
        key for key, (into, _) in pairs.items() if gone.get(into, 0) > _WORTH * ranks[into]
    )


def _check_budget(
    coupling: Coupling,
    statistics: Mapping[str, LayerStatistics],
    budget: Budget,
    *,
    low_rank: bool,
) -> None:
    least = least_share(coupling, statistics, budget)
    if least <= budget.keep:
        return
    whole = _work(coupling, statistics)
    held = sorted(
        (each for each in coupling.layers if each.name in coupling.held),
        key=lambda each: -whole[each.key],
    )
    listed = ", ".join(f"{x.name} ({coupling.held[x.name]})" for x in held[:3])
    raise UserError(
        f"prune_neurons: budget is {budget.keep:g} of the dense layers' multiply-adds; no less "
        f"than {least:.3f} can be reached, as outputs have to stay of {listed or 'every layer'}"
        + ("" if low_rank else "; give more, or low_rank = true")
    )


def _reports(
    before: Coupling,
    after: Coupling,
    whole: Mapping[str, float],
    pairs: Mapping[str, tuple[str, str]],
) -> tuple[LayerReport, ...]:
    now = {each.key: sizes_of(after, each) for each in after.layers}
    reports = []
    for each in before.layers:
        outputs, inputs = sizes_of(before, each)
        into, out = pairs.get(each.key, (each.key, each.key))
        rank = now[into][0] if each.key in pairs else 0
        new_outputs, new_inputs = now[out][0], now[into][1]
        new = rank * (new_outputs + new_inputs) if rank else new_outputs * new_inputs
        reports.append(
            LayerReport(
                name=each.name,
                outputs_before=outputs,
                outputs_after=new_outputs,
                inputs_before=inputs,
                inputs_after=new_inputs,
                rank=rank,
                multiply_adds_before=whole[each.key],
                multiply_adds_after=whole[each.key] * new / (outputs * inputs),
                bytes_before=each.element_size * outputs * inputs,
                bytes_after=each.element_size * new,
                reason=before.held.get(each.name, ""),
            )
        )
    return tuple(reports)
