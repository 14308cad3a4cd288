"""Several configurations of one model: each serves its own version, none another's."""

import numpy as np
import pytest
from tiny_ranker import make_artifact, make_request
from tritonclient.grpc import service_pb2

from client import RankerClient
from optimize.runtimes import open_predictor
from optimize.triton.config import CONFIG, ServingOptions, read_config
from optimize.triton.config_files import check_config_name
from optimize.triton.repository import deploy, versions
from rankers.errors import UserError


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    return [make_artifact(folder / str(seed), seed=seed) for seed in range(4)]


@pytest.fixture
def model(tmp_path):
    return tmp_path / "models" / "tiny"


def put(artifact, model, config_name=None, **options):
    given = ServingOptions(**options)
    return deploy(artifact, model.parent, model.name, options=given, config_name=config_name)


def read(model, name=None):
    path = model / CONFIG if name is None else model / "configs" / f"{name}.pbtxt"
    return read_config(path.read_text(), path)


def served(model, name=None):
    return list(read(model, name).version_policy.specific.versions)


def test_one_configuration_serves_the_newest_version_without_saying_which(artifacts, model):
    put(artifacts[0], model)
    assert served(model) == []
    assert not (model / "configs").exists()


def test_a_second_one_has_its_own_version_and_the_first_keeps_its_own(artifacts, model):
    put(artifacts[0], model)
    assert put(artifacts[1], model, "other", instances=3).version == 2
    assert (served(model), served(model, "other")) == ([1], [2])
    assert read(model, "other").instance_group[0].count == 3
    assert read(model).parameters["signature"] == read(model, "other").parameters["signature"]


def test_the_same_artifact_is_there_once_for_all_of_them(artifacts, model):
    put(artifacts[0], model)
    assert put(artifacts[0], model, "other", threads=2).version == 1
    assert versions(model) == [1]
    assert read(model).parameters["threads"].string_value == "1"
    assert read(model, "other").parameters["threads"].string_value == "2"


def test_a_version_that_some_configuration_serves_is_never_removed(artifacts, model):
    put(artifacts[0], model, keep_versions=1)
    put(artifacts[1], model, "other", keep_versions=1)
    for artifact in artifacts[2:]:
        put(artifact, model, keep_versions=1)
    assert (served(model), served(model, "other")) == ([4], [2])
    assert versions(model) == [2, 4]
    assert put(artifacts[1], model, keep_versions=1).version == 2  # back to what is there
    assert versions(model) == [2, 4]


def test_a_configuration_may_be_behind_another_backend(artifacts, model):
    put(artifacts[0], model)
    folder = put(artifacts[0], model, "image", backend="onnxruntime").folder
    assert folder.name == "2"
    assert not (folder / "model.py").exists()
    assert (read(model).backend, read(model, "image").backend) == ("python", "onnxruntime")
    with pytest.raises(UserError, match="behind the backend 'onnxruntime'"):
        put(artifacts[1], model, "image")


@pytest.mark.parametrize(
    ("name", "said"), [("a b", "no name for a configuration"), ("gpu", "is not deployed yet")]
)
def test_what_cannot_be_is_refused_and_nothing_is_left(artifacts, model, name, said):
    with pytest.raises(UserError, match=said):
        put(artifacts[0], model, name)
    assert not model.exists()


def test_a_name_that_no_model_has_is_refused_with_those_that_are_there(artifacts, model):
    put(artifacts[0], model)
    with pytest.raises(UserError, match="no model has a configuration 'gpu'; `deploy --config-n"):
        check_config_name(model.parent, ["tiny"], "gpu")
    put(artifacts[0], model, "many")
    with pytest.raises(UserError, match="no model has a configuration 'gpu'; there are: many"):
        check_config_name(model.parent, ["tiny"], "gpu")
    check_config_name(model.parent, ["tiny"], "many")


@pytest.mark.end_to_end
def test_a_server_serves_the_configuration_that_it_is_told(artifacts, model, start_server):
    put(artifacts[0], model)
    put(artifacts[1], model, "other", instances=3)
    # It has no configuration of that name, and a newer version that is not its default one's.
    plain = model.parent / "plain"
    put(artifacts[2], plain, instances=2)
    put(artifacts[3], plain, "another")
    on_gpu = put(artifacts[3], model.parent / "gpu").folder.parent / CONFIG
    on_gpu.write_text(on_gpu.read_text().replace("KIND_CPU", "KIND_GPU"))
    request = make_request(np.random.default_rng(0), 20)
    with start_server(model.parent, model_config_name="other") as server:
        assert server.models == ("plain", "tiny")
        assert "its instances are for a GPU" in server.failed["gpu"]
        for name, artifact, count in (("tiny", artifacts[1], 3), ("plain", artifacts[2], 2)):
            with RankerClient(server.grpc_url, name, timeout_s=60) as client:
                expected = open_predictor(artifact, threads=1)(request.flat())
                np.testing.assert_array_equal(client.rank(request), expected)
                asked = service_pb2.ModelConfigRequest(name=name)
                said = client._fleet.endpoints[0].stub.ModelConfig(asked).config
                assert said.instance_group[0].count == count
