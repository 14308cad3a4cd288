"""A law for any ranker: by states kept of users apart it scores as the flat one does."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, reject, settings
from random_graphs import IDS, LENGTH, NAMES, USER, random_graphs, sample

from optimize.artifact import Manifest, seal
from optimize.build import run_stage
from optimize.torch_program import PROGRAM, save_program
from optimize.user_once.cost import Request
from optimize.user_once.rewriting import _export, rewrite
from optimize.user_once.split import split, splittable_sides
from optimize.user_state.predictor import open_user_state
from optimize.user_state.state import UserState, join_states
from rankers.errors import UserError
from rankers.features import Feature, Signature

SHAPES = {"history": (LENGTH,), "tags": (LENGTH,), "age": (2,), "price": (1,)}
COUNTS = ((1,), (9,), (5, 1, 3))


def signature():
    return Signature(
        tuple(
            Feature(
                name,
                "float64" if name in {"age", "price"} else "int64",
                SHAPES.get(name, ()),
                side="user" if name in USER else "item",
                cardinality=None if name in {"age", "price"} else IDS,
            )
            for name in NAMES
        ),
        score="relevance",
    )


# Each is exported to ONNX, which takes a second: the same few each time, and none made smaller.
@settings(
    deadline=None, derandomize=True, database=None, max_examples=3, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(random_graphs())
def test_scores_by_kept_states_are_those_of_the_flat_graph(graph):
    inputs = {
        counts: (sample(len(counts), seed=1), sample(sum(counts), seed=2)) for counts in COUNTS
    }
    flat = {}
    for counts, (users, items) in inputs.items():
        index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        flat[counts] = graph.score(
            {name: users[name][index] if name in USER else items[name] for name in NAMES}
        ).numpy()
    rewrite(graph, Request())
    program = _export(graph, split(graph, splittable_sides(graph))[0])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        save_program(program, source / PROGRAM)
        manifest = Manifest("random", "torch", PROGRAM, signature(), layout="user_once")
        made = seal(source, manifest)
        try:
            made = run_stage("export_onnx", {}, made, Path(folder))
        except UserError:  # attention of three dimensions, which PyTorch's exporter does not take
            reject()
        made = run_stage("user_state", {}, made, Path(folder))
        predictor = open_user_state(made.folder, threads=1)
    for counts, (users, items) in inputs.items():
        own = [
            predictor.user({name: users[name][at : at + 1].numpy() for name in USER})
            for at in range(len(counts))
        ]
        state = join_states([UserState.from_bytes(each.to_bytes()) for each in own])
        columns = {name: items[name].numpy() for name in NAMES if name not in USER}
        scores = predictor.rank(state, columns, counts)
        scale = max(1.0, float(np.abs(flat[counts]).max()))
        np.testing.assert_allclose(scores, flat[counts], atol=1e-11 * scale)
