"""A program behind ``torch_aoti``: its package takes wire tensors, its configs say how."""

import json
import shutil

import example_rankers
import numpy as np
import pytest
import torch
from torch import _inductor as inductor

from optimize.artifact import open_artifact
from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.triton import aoti
from optimize.triton.config import CONFIG, ServingOptions, read_config
from optimize.triton.deployable import find_deployable
from optimize.triton.repository import deploy
from rankers.errors import UserError
from rankers.wire import pack_request, wire_tensors


@pytest.fixture(scope="module")
def program(store):
    flat = capture(example_rankers.tiny(), store, candidates=(1, 37))
    return run_stage("user_once", {"when": "always"}, flat, store)


@pytest.fixture(scope="module")
def repository(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aoti") / "models"
    options = ServingOptions(backend="torch_aoti", threads=3, max_candidates=700)
    deploy(program, folder, "tiny", options=options)
    return folder


def config_of(repository, name):
    path = repository / name / CONFIG
    return read_config(path.read_text(), path)


def test_the_package_takes_wire_tensors_by_place_and_gives_the_programs_scores(repository, program):
    package = repository / "tiny.aoti" / "1" / "model.pt2"
    loaded = inductor.aoti_load_package(str(package))
    signature = program.manifest.signature
    tensors = wire_tensors(signature)
    config = config_of(repository, "tiny.aoti")
    # What the backend reads the inputs' places from: a tuple of arguments, and none by name.
    _, said = json.loads(loaded.loader.get_call_spec()[0])
    arguments, named = said["children_spec"]
    assert len(arguments["children_spec"]) == len(tensors)
    assert named["children_spec"] == []
    for count in (1, 20, 333):
        requests = sample_requests(signature, [count])
        packed = pack_request(tensors, requests[0])
        given = [torch.from_numpy(packed[each.name]) for each in tensors]
        for said, tensor in zip(config.input, given, strict=True):
            fits = zip(said.dims, tensor.shape, strict=True)
            assert all(size in {-1, there} for size, there in fits)
        (scores,) = loaded(*given).numpy()
        expected = open_predictor(program)(program.manifest.columns_of(requests))
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_the_model_says_what_the_backend_wants(repository):
    config = config_of(repository, "tiny.aoti")
    assert (config.backend, config.platform) == ("pytorch", "torch_aoti")
    assert config.max_batch_size == 0  # the backend joins no requests of such models
    names = [each.name for each in config.input]
    assert names == [f"INPUT__{at}" for at in range(len(names))]
    assert [each.name for each in config.output] == ["OUTPUT__0"]
    assert config.parameters["INTRA_OP_THREAD_COUNT"].string_value == "3"
    assert {each.batch_size for each in config.model_warmup} == {1}


def test_clients_find_the_names_of_the_wire_and_the_signature(repository, program):
    config = config_of(repository, "tiny")
    tensors = wire_tensors(program.manifest.signature)
    assert [each.name for each in config.input] == [each.name for each in tensors]
    (step,) = config.ensemble_scheduling.step
    assert step.model_name == "tiny.aoti"
    assert dict(step.input_map) == {f"INPUT__{n}": x.name for n, x in enumerate(tensors)}
    assert dict(step.output_map) == {"OUTPUT__0": "score"}
    assert "country" in config.parameters["signature"].string_value
    assert config.parameters["max_candidates"].string_value == "700"
    assert (repository / "tiny" / "1").is_dir()


def test_the_version_is_an_artifact_that_says_what_it_needs(repository, program):
    manifest = open_artifact(repository / "tiny.aoti" / "1").manifest
    assert (manifest.format, manifest.layout) == ("inductor", "wire")
    assert manifest.requires["torch"] == torch.__version__
    assert manifest.lineage[-1].source == program.key


def test_a_package_that_scores_otherwise_is_not_placed(repository, program):
    signature = program.manifest.signature
    requests = [sample_requests(signature, [5])]
    package = repository / "tiny.aoti" / "1" / "model.pt2"
    with pytest.raises(UserError, match="scores 5 candidates otherwise"):
        aoti.check_package(package, signature, requests, [np.zeros(5)], "cpu")


def test_what_a_killed_deploy_left_is_replaced(repository, program, tmp_path, monkeypatch):
    shutil.copytree(repository / "tiny.aoti", tmp_path / "models" / "tiny.aoti")
    written = []

    def write(artifact, folder, device):
        written.append(folder)
        (folder / "model.pt2").write_bytes(b"anew")

    monkeypatch.setattr(aoti, "write_package", write)
    options = ServingOptions(backend="torch_aoti")
    deploy(program, tmp_path / "models", "tiny", options=options)
    assert len(written) == 1
    assert (tmp_path / "models" / "tiny.aoti" / "1" / "model.pt2").read_bytes() == b"anew"


class TestRefused:
    def test_a_second_model_of_the_name(self, repository, program):
        options = ServingOptions(backend="torch_aoti")
        with pytest.raises(UserError, match="deploys new models only"):
            deploy(program, repository, "tiny", options=options)

    def test_another_format(self, onnx_artifact, tmp_path):
        with pytest.raises(UserError, match="deploy one of these formats: torch"):
            deploy(onnx_artifact, tmp_path, "tiny", options=ServingOptions(backend="torch_aoti"))
        assert not any(tmp_path.iterdir())

    def test_tensorrt_in_front_of_it(self):
        with pytest.raises(UserError, match="is of the backend onnxruntime"):
            ServingOptions(backend="torch_aoti", accelerator="tensorrt")

    def test_a_gpu_that_is_not_there(self, program, tmp_path):
        if torch.cuda.is_available():
            pytest.skip("of a machine without a GPU")
        options = ServingOptions(backend="torch_aoti", accelerator="cuda")
        with pytest.raises(UserError, match="no CUDA device"):
            deploy(program, tmp_path / "models", "tiny", options=options)
        assert not list((tmp_path / "models").glob("*"))

    def test_a_torch_artifact_behind_another_backend(self, program, tmp_path):
        assert find_deployable(program.folder, "torch_aoti").key == program.key
        options = ServingOptions(backend="onnxruntime")
        with pytest.raises(UserError, match="cannot be deployed behind the backend 'onnxruntime'"):
            deploy(program, tmp_path / "models", "tiny", options=options)
        assert not any(tmp_path.iterdir())
