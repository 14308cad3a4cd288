from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_ranker import SIGNATURE

from optimize.triton.config import ServingOptions, config_text, read_config, serving_config
from rankers.errors import UserError
from rankers.features import Signature


@pytest.fixture
def config(tiny_artifact):
    options = ServingOptions(instances=2, threads=3, queue_size=7, queue_timeout_ms=1.5)
    return serving_config(tiny_artifact, "tiny", options, {4: "abc"})


def test_the_text_reads_back_as_the_same_message(config):
    assert read_config(config_text(config), "config.pbtxt") == config


def test_a_text_that_is_no_config_is_refused_with_its_place():
    with pytest.raises(UserError, match=r"here/config.pbtxt: not a Triton config"):
        read_config("nonsense: {", "here/config.pbtxt")


def test_requests_are_the_batch_and_candidates_are_ragged(config):
    shapes = {each.name: (list(each.dims), each.allow_ragged_batch) for each in config.input}
    assert shapes == {
        "user_int64": ([4], False),
        "user_float32": ([4], False),
        "item_int64": ([-1, 1], True),
        "item_float32": ([-1, 2], True),
    }
    assert config.max_batch_size == 16


def test_the_queue_is_bounded_in_size_and_time(config):
    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size == 7
    assert policy.default_timeout_microseconds == 1500
    assert policy.timeout_action == policy.REJECT


def test_instances_and_threads_are_as_asked(config):
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, group.KIND_CPU)
    assert config.parameters["threads"].string_value == "3"


def test_one_instance_a_physical_core_and_two_at_least_is_the_default(tiny_artifact):
    from optimize.runtimes import physical_cores

    config = serving_config(tiny_artifact, "tiny", ServingOptions(), {})
    assert config.instance_group[0].count == max(2, physical_cores())


def test_a_client_can_learn_the_features_from_the_parameters(config):
    stated = json.loads(config.parameters["signature"].string_value)
    assert Signature.from_json(stated) == SIGNATURE
    assert config.parameters["artifact.4"].string_value == "abc"


def test_every_warm_up_size_is_run_for_every_input(config):
    sizes = {each.inputs["item_int64"].dims[0] for each in config.model_warmup}
    assert sizes == {1, 20, 100, 700}
    assert {each.batch_size for each in config.model_warmup} == {1, 16}
    for each in config.model_warmup:
        assert set(each.inputs) == {tensor.name for tensor in config.input}


def test_no_warm_up_is_larger_than_what_is_answered(tiny_artifact):
    options = ServingOptions(max_candidates=9, warm_up_candidates=(1, 9))
    config = serving_config(tiny_artifact, "tiny", options, {})
    assert {each.inputs["item_int64"].dims[0] for each in config.model_warmup} == {1, 9}


class TestTheOnnxruntimeBackend:
    @pytest.fixture
    def config(self, tiny_artifact):
        options = ServingOptions(backend="onnxruntime", threads=3, instances=4)
        return serving_config(tiny_artifact, "tiny", options, {1: "abc"})

    def test_is_named_and_reads_model_onnx(self, config):
        assert (config.backend, config.default_model_filename) == ("onnxruntime", "")

    def test_gets_threads_by_the_names_it_knows(self, config):
        values = {name: each.string_value for name, each in config.parameters.items()}
        assert values["intra_op_thread_count"] == "3"
        assert values["inter_op_thread_count"] == "1"
        assert "threads" not in values

    def test_gets_no_ragged_inputs_for_it_would_flatten_them(self, config):
        assert not any(each.allow_ragged_batch for each in config.input)

    def test_leaves_the_rest_as_it_is_for_clients_and_queue(self, config, tiny_artifact):
        options = ServingOptions(threads=3, instances=4)
        python = serving_config(tiny_artifact, "tiny", options, {1: "abc"})
        for field in ("output", "dynamic_batching", "instance_group", "model_warmup"):
            assert getattr(config, field) == getattr(python, field)
        for name in ("signature", "max_candidates", "artifact.1"):
            assert config.parameters[name] == python.parameters[name]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "onnxrutime"}, "backend is 'onnxrutime'.*'onnxruntime'"),
        ({"instances": 1}, "instances is 1; it is 2 or more"),
        ({"threads": 0}, "threads is 0"),
        ({"max_batch_size": 0}, "max_batch_size is 0"),
        ({"queue_size": -1}, "queue_size is -1"),
        ({"queue_timeout_ms": 0}, "queue_timeout_ms is 0"),
        ({"keep_versions": 0}, "keep_versions is 0"),
        ({"max_candidates": 600}, "warm_up_candidates holds 700"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options, said):
    with pytest.raises(UserError, match=said):
        ServingOptions(**options)


def test_the_example_in_the_model_repository_is_what_deploy_writes(tiny_artifact):
    path = Path(__file__).parents[3] / "model_repository" / "example" / "config.pbtxt"
    key = tiny_artifact.manifest.to_json()["sha256"]
    expected = serving_config(tiny_artifact, "example", ServingOptions(instances=2), {1: key})
    example = read_config(path.read_text(), path)
    example.parameters["artifact.1"].string_value = key  # the weights' own
    assert example == expected


def test_a_queue_size_of_0_leaves_the_queue_without_bounds(tiny_artifact):
    config = serving_config(tiny_artifact, "tiny", ServingOptions(queue_size=0), {1: "key"})
    assert not config.dynamic_batching.HasField("default_queue_policy")
