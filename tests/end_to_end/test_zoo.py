"""Every ranker of the zoo, whole: trained, exported, gated, deployed, served beside the others."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from in_process import children_in_this_process

from rankers.zoo.catalogue import ZOO

pytestmark = pytest.mark.end_to_end

# How far from chance to the best reachable metric each has to get on its log.
CLOSED = 0.8
# Rows in place of the catalogue's, where the sizes and steps beside them get there with fewer.
ROWS = {
    "dlrm": 200_000,
    "dcn_v2": 160_000,
    "deepfm": 300_000,
    "history_transformer": 130_000,
    "cross_encoder": 40_000,
}
SIZES = {"history_transformer": {"layers": 1}}
STEPS = {
    "wide_deep": {"batch_rows": 512, "table_learning_rate": 0.2},
    "history_transformer": {"learning_rate": 0.008, "table_learning_rate": 0.3},
}
# Of the held-out requests: gates and the comparison of scores need no more.
JUDGED = 60


@dataclasses.dataclass(frozen=True)
class Made:
    training: object
    ranker: object
    run: object


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Train all, then take them through the recipe."""
    from optimize.children import default_limits
    from optimize.pipeline import run_recipe
    from optimize.recipe import load_recipe
    from rankers.checkpoint import load_checkpoint, save_checkpoint
    from rankers.data.source import read_log
    from rankers.zoo import train_zoo, training_options

    folder = tmp_path_factory.mktemp("zoo")
    trainings = {}
    for name, entry in ZOO.items():
        log = read_log(f"synthetic:{entry.log}", rows=ROWS.get(name, entry.rows))
        steps = training_options(name, **STEPS.get(name, {}))
        ranker, options, training = train_zoo(name, log, steps, overrides=SIZES.get(name))
        few = dataclasses.replace(ranker, evaluation=ranker.evaluation.slice(0, JUDGED))
        save_checkpoint(folder / name, few, options, training.to_json())
        trainings[name] = training

    recipe = load_recipe("cpu-fp32")
    with children_in_this_process():
        runs = {
            name: run_recipe(
                str(folder / name), recipe, folder / f"{name}-run", limits=default_limits()
            )
            for name in ZOO
        }
    return {name: Made(trainings[name], load_checkpoint(folder / name), runs[name]) for name in ZOO}


@pytest.fixture(scope="module")
def repository(zoo, tmp_path_factory):
    from optimize.triton.repository import deploy

    folder = tmp_path_factory.mktemp("zoo-served") / "models"
    for name, made in zoo.items():
        deploy(made.run.chosen, folder, name)
    return folder


@pytest.fixture(scope="module")
def server(repository, start_server):
    with start_server(repository) as running:
        yield running


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.timeout(900)
class TestEveryRanker:
    def test_it_learns_most_of_what_can_be_learned(self, zoo, name):
        training = zoo[name].training
        assert training.closed >= CLOSED, training.quality
        assert training.quality.auc <= training.best.auc

    def test_it_passes_its_gates(self, zoo, name):
        run = zoo[name].run
        assert run.passed
        assert run.chosen.manifest.format == "onnx"
        for stage in run.to_json()["stages"]:
            parity = stage["verdicts"][0]["numbers"]
            assert parity["max_abs"] <= 1e-5

    def test_its_graph_has_no_loop(self, zoo, name):
        import onnx

        artifact = zoo[name].run.chosen
        graph = onnx.load(artifact.model_path, load_external_data=False).graph
        assert not {"Loop", "If", "Scan"} & {node.op_type for node in graph.node}

    def test_it_is_served_with_the_scores_of_this_process(self, zoo, server, name):
        from client import RankerClient
        from optimize.runtimes import open_predictor

        made = zoo[name]
        predictor = open_predictor(made.run.chosen, threads=1)
        with RankerClient(server.grpc_url, name, timeout_s=20.0) as client:
            for request in list(made.ranker.evaluation)[:20]:
                columns = made.run.chosen.manifest.columns_of(request)
                np.testing.assert_array_equal(client.rank(request), predictor(columns))

    def test_by_a_kept_state_it_scores_as_by_the_users_features(self, zoo, tmp_path, name):
        from optimize.build import run_stage
        from optimize.runtimes import open_predictor
        from optimize.user_state.predictor import open_user_state
        from optimize.user_state.state import UserState, join_states
        from rankers.errors import UserError

        whole = zoo[name].run.chosen
        if whole.manifest.layout == "flat":
            with pytest.raises(UserError, match="user_once: kept flat"):
                run_stage("user_state", {}, whole, tmp_path)
            return
        predictor = open_user_state(run_stage("user_state", {}, whole, tmp_path).folder, threads=1)
        batch = zoo[name].ranker.evaluation.slice(0, 5)
        kept = [predictor.user(each.user).to_bytes() for each in batch]
        states = [UserState.from_bytes(each) for each in kept]
        expected = open_predictor(whole, threads=1)(whole.manifest.columns_of(batch))
        together = predictor.rank(join_states(states), batch.items, batch.candidates)
        np.testing.assert_allclose(together, expected, atol=1e-6)
        alone = [
            predictor.rank(state, each.items) for state, each in zip(states, batch, strict=True)
        ]
        np.testing.assert_allclose(np.concatenate(alone), expected, atol=1e-6)

    def test_requests_that_are_joined_get_the_scores_of_those_alone(self, zoo, server, name):
        from client import RankerClient

        requests = list(zoo[name].ranker.evaluation)[:24]
        with RankerClient(server.grpc_url, name, timeout_s=20.0) as client:
            alone = [client.rank(each) for each in requests]
            with ThreadPoolExecutor(8) as pool:
                together = list(pool.map(client.rank, requests))
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(other, one, atol=1e-6)


@pytest.mark.timeout(900)
def test_texts_are_ranked_by_the_tokenizer_that_was_deployed_with_the_ranker(
    zoo, repository, server
):
    from client import RankerClient
    from rankers.data.synthetic_text import TextModel
    from rankers.text import TextEncoder

    made = zoo["cross_encoder"]
    version = repository / "cross_encoder" / "1"
    texts = next(TextModel(seed=5).texts(50)).requests[0]
    with RankerClient(server.grpc_url, "cross_encoder", timeout_s=20.0) as client:
        encoder = TextEncoder(version, client.signature)
        request = encoder.request(
            {"query": texts.user["query"]}, {"document": texts.items["document"].tolist()}
        )
        scores = client.rank(request)
    np.testing.assert_allclose(scores, made.ranker.score(request.flat()), atol=1e-5)
    trained = TextModel().tokenizer()
    assert (version / "files" / "tokenizer.json").read_bytes() == trained
