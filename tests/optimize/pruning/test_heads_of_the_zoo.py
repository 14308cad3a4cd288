"""Whole heads of the zoo's transformers, and of BERT as `transformers` writes it."""

from __future__ import annotations

import dataclasses
import importlib
import json

import numpy as np
import pytest
import torch

from optimize.artifact import Manifest
from optimize.build import run_stage
from optimize.capture import capture
from optimize.export import export_ranker
from optimize.pruning.coupling import find_coupling
from optimize.pruning.cutting import cut
from optimize.runtimes import open_predictor
from optimize.stages.prune_neurons import REPORT
from optimize.tables.program import open_graph
from rankers.data.source import synthetic_log
from rankers.ranker import Ranker
from rankers.zoo import options_of
from rankers.zoo.catalogue import ZOO


def random_ranker(name, **overrides):
    """Build a zoo ranker with random weights, and the first requests of its log."""
    torch.manual_seed(0)
    log = synthetic_log(ZOO[name].log).draw(1500)
    module = importlib.import_module(ZOO[name].module).build(
        **options_of(name, log, overrides=overrides)
    )
    calibration, evaluation = (
        log.requests.select(np.arange(*ends)) for ends in ((0, 4), (4, len(log.requests)))
    )
    unlabelled = dataclasses.replace(calibration, labels=None)
    return Ranker(name, module.eval(), log.signature, evaluation, calibration=unlabelled)


@pytest.mark.parametrize(
    ("name", "overrides", "attentions", "heads", "reader"),
    [
        ("history_transformer", {"heads": 4}, 3, 4, "attention.out.weight"),
        ("cross_encoder", {"attention": "sdpa"}, 2, 4, "attention.output.dense.weight"),
        ("cross_encoder", {"attention": "eager"}, 2, 4, "attention.output.dense.weight"),
    ],
)
def test_cutting_a_head_of_each_attention_leaves_what_the_others_say(
    name, overrides, attentions, heads, reader
):
    ranker = random_ranker(name, **overrides)
    manifest = Manifest(name, "torch", "model.pt2", ranker.signature)
    graph = open_graph(export_ranker(ranker), manifest)
    coupling = find_coupling(graph)
    assert [x.count for x in coupling.attention] == [heads] * attentions
    held = dict(graph.module.named_parameters())
    chosen = {}
    for number, group in enumerate(coupling.groups):
        (key, axis), *_ = (x for x in group.signature if x[1] == 1)
        if key.endswith(reader):
            chosen[number] = {number % heads}
            with torch.no_grad():
                held[key][:, list(group.neurons[number % heads][key, axis])] = 0
    columns = graph.sample(20)
    expected = graph.score(columns)

    cut(graph, coupling, chosen, None)

    torch.testing.assert_close(graph.score(columns), expected, rtol=0, atol=1e-5)
    assert len(chosen) == attentions
    assert [x.count for x in find_coupling(graph).attention] == [heads - 1] * attentions


def test_a_history_transformer_with_fewer_heads_is_split_and_exported(store):
    ranker = random_ranker("history_transformer", heads=4, layers=1)
    captured = capture(ranker, store, candidates=(1, 5))
    options = {"budget": 0.4, "multiple": 4, "min_width": 4, "rounds": 1}
    pruned = run_stage("prune_neurons", options, captured, store, data=captured)
    split = run_stage("user_once", {"when": "always"}, pruned, store)
    exported = run_stage("export_onnx", {}, split, store)
    batch = ranker.evaluation.select(np.arange(3))
    first, last = (open_predictor(x)(x.manifest.columns_of(batch)) for x in (pruned, exported))

    np.testing.assert_allclose(last, first, atol=1e-5)
    attention = json.loads((pruned.folder / REPORT).read_text())["attention"]
    assert [x["heads_before"] for x in attention] == [4, 4]
    gone = sum(x["heads_before"] - x["heads_after"] for x in attention)
    assert gone > 0
    assert f"{gone} of 8 attention heads among them" in pruned.manifest.notes[-1]
