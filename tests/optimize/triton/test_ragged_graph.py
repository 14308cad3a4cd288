"""A user-once ranker for Triton's ONNX Runtime backend: flattened inputs, requests of any sizes."""

from __future__ import annotations

import history_rankers
import numpy as np
import onnx
import onnxruntime
import pytest

from optimize.artifact import open_artifact
from optimize.build import run_stage
from optimize.capture import capture
from optimize.requirements import check_artifact
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.triton.config import CONFIG, ServingOptions, read_config
from optimize.triton.embedded import ServerError
from optimize.triton.ragged_graph import ITEM_ENDS, pack_ragged
from optimize.triton.repository import deploy
from rankers.wire import SCORE


@pytest.fixture(scope="module")
def artifact(store):
    flat = capture(history_rankers.attending(), store, candidates=(1, 5))
    return run_stage("export_onnx", {}, run_stage("user_once", {}, flat, store), store)


@pytest.fixture(scope="module")
def deployed(artifact, tmp_path_factory):
    repository = tmp_path_factory.mktemp("ragged") / "models"
    return deploy(artifact, repository, "ragged", options=ServingOptions(backend="onnxruntime"))


@pytest.mark.parametrize("counts", [[1], [37], [3, 1, 30], [2] * 16])
def test_flattened_requests_get_the_scores_of_the_user_once_graph(artifact, deployed, counts):
    batch = sample_requests(history_rankers.SIGNATURE, counts)
    expected = open_predictor(artifact, threads=1)(batch.joined())
    session = onnxruntime.InferenceSession(
        deployed.folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(None, pack_ragged(history_rankers.SIGNATURE, batch))
    assert scores.shape == (sum(counts),)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_what_was_deployed_is_not_taken_for_a_model_of_columns(deployed):
    checks = {name: (passed, said) for name, passed, said in check_artifact(
        open_artifact(deployed.folder))}  # fmt: skip
    passed, said = checks["scores"]
    assert not passed
    assert "open the artifact that it was deployed from" in said


def test_where_requests_end_decides_whose_candidates_are_scored(artifact, deployed):
    batch = sample_requests(history_rankers.SIGNATURE, [4, 4])
    session = onnxruntime.InferenceSession(
        deployed.folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    packed = pack_ragged(history_rankers.SIGNATURE, batch)
    (scores,) = session.run(None, packed)
    moved = packed | {ITEM_ENDS: np.array([5, 8], np.int32) * packed[ITEM_ENDS][0] // 4}
    (others,) = session.run(None, moved)
    np.testing.assert_array_equal(np.isclose(scores, others), [True] * 4 + [False] + [True] * 3)


def test_the_config_joins_ragged_requests_and_cuts_the_scores_apart(deployed):
    path = deployed.folder.parent / CONFIG
    config = read_config(path.read_text(), path)
    ragged = {each.name: each.allow_ragged_batch for each in config.input}
    assert ragged == {
        "user_int64": False, "user_float32": False, "item_int64": True, "item_float32": True,
    }  # fmt: skip
    (ends,) = config.batch_input
    (scores,) = config.batch_output
    assert (ends.target_name[0], ends.source_input[0]) == (ITEM_ENDS, "item_int64")
    assert (scores.target_name[0], scores.source_input[0]) == (SCORE, "item_int64")
    graph = onnx.load(deployed.folder / "model.onnx", load_external_data=False).graph
    assert {each.name for each in graph.input} == {*ragged, ITEM_ENDS}


@pytest.mark.end_to_end
def test_the_real_server_takes_the_config_and_lacks_nothing_but_the_backend(deployed, start_server):
    with (
        pytest.raises(ServerError, match="unable to find backend library for backend 'onnxrunt"),
        start_server(deployed.folder.parents[1]),
    ):
        pass
