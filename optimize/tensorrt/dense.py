"""The graph that an engine is built of: it takes dense wire tensors, proved on the CPU."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optimize.artifact import Artifact
    from optimize.buckets import Buckets
    from optimize.runtimes.static_buckets import BucketPredictor

GRAPH = "model.onnx"
# What cutting and padding may move a score by: other shapes take other kernels, and in 16 or 8 bits
# another last bit may be rounded to another value.
_MOVED, _MOVED_NARROW = 1e-5, 2e-2


def write_dense(artifact: Artifact, folder: Path, sizes: Sequence[int]) -> Path:
    """Write the dense form of an ONNX artifact's graph, with its weights beside it.

    Args:
        artifact: Flat or user-once.
        folder: Where it goes.
        sizes: The buckets that it is tried in on the CPU.

    Returns:
        The graph's file.

    Raises:
        UserError: It has another layout, TensorRT would refuse it (a line for each finding), or its
            scores are not the artifact's.
    """
    from optimize.artifact import copy_model
    from optimize.buckets import Buckets
    from optimize.tensorrt.preflight import check_graph
    from optimize.triton.dense_graph import dense_form
    from optimize.triton.wire_graph import write_graph

    manifest = artifact.manifest
    if manifest.format != "onnx" or manifest.layout not in {"flat", "user_once"}:
        raise UserError(
            f"an engine is built of flat and user-once graphs; this is a {manifest.layout} "
            f"{manifest.format} artifact"
        )
    copy_model(artifact, folder)
    graph = folder / GRAPH
    if manifest.model != GRAPH:
        shutil.move(folder / manifest.model, graph)
    write_graph(dense_form(manifest.layout), graph, graph, manifest.signature)
    findings = check_graph(graph)
    if findings:
        listed = "\n".join(f"  {each}" for each in findings)
        raise UserError(f"TensorRT would refuse this graph (optimize preflight):\n{listed}")
    _prove(artifact, open_dense(artifact, graph, Buckets(tuple(sizes))))
    return graph


def open_dense(artifact: Artifact, graph: Path, buckets: Buckets) -> BucketPredictor:
    """Open the dense form of an artifact's graph on the CPU, in buckets, as its engine runs it.

    Args:
        artifact: What it was made of; the columns are those of its ``user_once`` layout.
        graph: Its file.
        buckets: Of candidates.
    """
    from dataclasses import replace

    from optimize.runtimes.onnx_buckets import BoundSession
    from optimize.runtimes.onnx_sessions import open_session
    from optimize.runtimes.static_buckets import BucketPredictor
    from optimize.static_inputs import columns_of
    from optimize.wire_inputs import WireInputs

    manifest = artifact.manifest
    session = open_session(graph, 1, manifest.settings)
    read = {each.name for each in session.get_inputs()}
    runs = {}
    for size in buckets.sizes:
        inputs = WireInputs(manifest.signature, size, "cpu")
        inputs.named = {name: x for name, x in inputs.named.items() if name in read}
        runs[size] = BoundSession(session, inputs, size, device="cpu")
    return BucketPredictor(columns_of(replace(manifest, layout="user_once")), buckets, runs)


def _prove(artifact: Artifact, dense: BucketPredictor) -> None:
    """Score the same requests by the artifact and by its dense form."""
    from optimize.runtimes import open_predictor
    from optimize.samples import sample_requests

    manifest = artifact.manifest
    plain = open_predictor(artifact, threads=1)
    bearable = _MOVED if manifest.precision == "fp32" else _MOVED_NARROW
    for counts in ([1], [dense.buckets.greatest], [3, 1, dense.buckets.greatest]):
        requests = sample_requests(manifest.signature, counts)
        expected = plain(manifest.columns_of(requests))
        moved = float(np.abs(dense(requests.joined()) - expected).max())
        if not moved <= bearable:
            raise UserError(
                f"the graph made for TensorRT scores {sum(counts)} candidates otherwise, by up to "
                f"{moved:.2g}"
            )
