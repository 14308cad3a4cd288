"""Configs for a GPU say what Triton's documents ask for, and read back as written."""

from dataclasses import replace

import pytest
from tiny_ranker import SIGNATURE

from optimize.buckets import Buckets
from optimize.triton.config import ServingOptions, config_text, read_config, serving_config
from optimize.triton.gpu_config import use_plan
from optimize.triton.repository import deploy
from rankers.errors import UserError


def config_of(artifact, **options):
    given = {"backend": "onnxruntime", "max_batch_size": 4, "max_candidates": 1000} | options
    config = serving_config(artifact, "tiny", ServingOptions(**given), {1: "key"})
    return read_config(config_text(config), "config.pbtxt")


@pytest.mark.parametrize("accelerator", ["cuda", "tensorrt"])
def test_instances_are_the_gpus_and_buffers_are_pinned(accelerator, tiny_artifact):
    config = config_of(tiny_artifact, accelerator=accelerator)
    (group,) = config.instance_group
    assert (group.kind, group.name) == (group.KIND_GPU, "tiny_gpu")
    assert config.optimization.input_pinned_memory.enable
    assert config.optimization.output_pinned_memory.enable
    assert {each.inputs["item_int64"].dims[0] for each in config.model_warmup} == {1, 20, 100, 700}


def test_cuda_is_what_gpu_instances_use_without_being_asked(tiny_artifact):
    config = config_of(tiny_artifact, accelerator="cuda")
    assert not config.optimization.execution_accelerators.gpu_execution_accelerator


def test_tensorrt_has_one_profile_from_one_candidate_to_the_most(tiny_artifact):
    config = config_of(tiny_artifact, accelerator="tensorrt")
    (chosen,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert chosen.name == "tensorrt"
    shapes = {name: chosen.parameters[f"trt_profile_{name}_shapes"] for name in ("min", "max")}
    assert shapes["min"] == "user_int64:1x4,user_float32:1x4,item_int64:1x1x1,item_float32:1x1x2"
    assert shapes["max"] == (
        "user_int64:4x4,user_float32:4x4,item_int64:4x1000x1,item_float32:4x1000x2"
    )
    assert "item_int64:1x100x1" in chosen.parameters["trt_profile_opt_shapes"]
    assert chosen.parameters["trt_engine_cache_enable"] == "1"


def test_tensorrt_refuses_the_ragged_inputs_of_a_user_once_artifact(tiny_artifact):
    once = replace(tiny_artifact, manifest=replace(tiny_artifact.manifest, layout="user_once"))
    with pytest.raises(UserError, match="deploy it with accelerator 'cuda'"):
        config_of(once, accelerator="tensorrt")
    assert config_of(once, accelerator="cuda").batch_input


def test_without_an_accelerator_nothing_changes(tiny_artifact):
    config = config_of(tiny_artifact)
    (group,) = config.instance_group
    assert group.kind == group.KIND_CPU
    assert not config.HasField("optimization")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accelerator": "tensort"}, "accelerator is 'tensort'.*'tensorrt'"),
        ({"accelerator": "tensorrt", "backend": "python"}, "is of the backend onnxruntime"),
        ({"gpus": (0,)}, "give an accelerator as well"),
        ({"accelerator": "cuda", "gpus": (1, 1)}, "expected different numbers from 0"),
    ],
)
def test_an_accelerator_that_makes_no_sense_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        ServingOptions(**options)


class TestPython:
    """The embedded server's Python backend on CUDA."""

    @pytest.fixture
    def in_buckets(self, tiny_artifact):
        settings = {"cuda_graphs": {"sizes": [8, 64, 512, 4096]}}
        manifest = replace(tiny_artifact.manifest, format="torch", settings=settings)
        return replace(tiny_artifact, manifest=manifest)

    def test_tensors_stay_on_the_gpus_that_were_named(self, in_buckets):
        config = config_of(in_buckets, backend="python", accelerator="cuda", gpus=(0, 2))
        (group,) = config.instance_group
        assert (group.kind, list(group.gpus), group.count) == (group.KIND_GPU, [0, 2], 2)
        assert config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value == "no"
        assert config.parameters["tensors"].string_value == "dlpack"
        assert config.optimization.input_pinned_memory.enable
        assert config.backend == "python"
        assert not config.optimization.HasField("execution_accelerators")

    def test_every_bucket_that_a_request_can_reach_is_warmed_up(self, in_buckets):
        for accelerator in ("none", "cuda"):
            config = config_of(in_buckets, backend="python", accelerator=accelerator)
            alone = [each for each in config.model_warmup if each.batch_size == 1]
            assert [each.inputs["item_int64"].dims[0] for each in alone] == [8, 64, 512, 1000]

    def test_a_graph_in_buckets_is_put_on_the_gpu_as_a_program_is(self, tiny_artifact):
        settings = {"onnx_buckets": {"sizes": [8, 64], "provider": "cuda"}}
        manifest = replace(tiny_artifact.manifest, settings=settings)
        graph = replace(tiny_artifact, manifest=manifest)
        config = config_of(graph, backend="python", accelerator="cuda", gpus=(0, 1))
        assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
        alone = [each for each in config.model_warmup if each.batch_size == 1]
        assert [each.inputs["item_int64"].dims[0] for each in alone] == [8, 64]

    def test_on_the_cpu_nothing_is_said_of_tensors(self, in_buckets):
        config = config_of(in_buckets, backend="python")
        assert not {"tensors", "FORCE_CPU_ONLY_INPUT_TENSORS"} & set(config.parameters)
        assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU

    def test_a_format_without_a_runtime_there_is_refused(self, tiny_openvino, tmp_path):
        options = ServingOptions(accelerator="cuda")
        with pytest.raises(UserError, match="openvino artifacts is one of the CPU: deploy one of"):
            deploy(tiny_openvino, tmp_path / "models", "tiny", options=options)
        assert not (tmp_path / "models").exists()


class TestPlan:
    @pytest.fixture
    def config(self, tiny_artifact):
        config = serving_config(tiny_artifact, "tiny", ServingOptions(backend="onnxruntime"), {})
        use_plan(config, SIGNATURE, Buckets((8, 64)))
        return read_config(config_text(config), "config.pbtxt")

    def test_each_bucket_has_a_graph_that_is_replayed_for_its_own_shape_alone(self, config):
        assert config.optimization.cuda.graphs
        specs = config.optimization.cuda.graph_spec
        assert [list(each.input["item_float32"].dim) for each in specs] == [[8, 2], [64, 2]]
        for each in specs:
            assert each.graph_lower_bound.batch_size == each.batch_size == 1
            assert dict(each.graph_lower_bound.input) == dict(each.input)
            assert set(each.input) == {tensor.name for tensor in config.input}

    def test_it_is_a_plan_on_the_gpu_with_no_threads_of_a_cpu(self, config):
        assert (config.platform, config.backend) == ("tensorrt_plan", "")
        assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
        assert not {name for name in config.parameters if "thread" in name}
        assert "signature" in config.parameters

    def test_ragged_inputs_are_refused(self, tiny_artifact):
        config = serving_config(tiny_artifact, "tiny", ServingOptions(), {})
        with pytest.raises(UserError, match="a TensorRT plan takes dense inputs"):
            use_plan(config, SIGNATURE, Buckets((8,)))
