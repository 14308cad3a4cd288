"""Checks before serving: what an artifact needs is held against this machine."""

from dataclasses import replace

import pytest

from optimize.artifact import Artifact
from optimize.build import run_stage
from optimize.requirements import check_artifact
from optimize.tensorrt.compatibility import Target
from rankers.errors import UserError


def found(artifact):
    return {name: (passed, text) for name, passed, text in check_artifact(artifact)}


def requiring(artifact, **requires):
    return Artifact(artifact.folder, replace(artifact.manifest, requires=requires))


def test_an_artifact_made_here_runs_here_but_was_not_gated(onnx_artifact):
    checks = found(onnx_artifact)
    assert checks["checksums"][0]
    assert checks["scores"][0]
    assert checks["gates"] == (False, "no gate has looked at it")


def test_layouts_for_this_cpu_are_required_of_any_other(onnx_artifact, store):
    artifact = run_stage("optimize_onnx", {"level": "all"}, onnx_artifact, store)
    assert artifact.manifest.requires["isa"]
    assert found(artifact)["instruction sets"][0]


def test_a_missing_instruction_set_is_named(onnx_artifact):
    checks = found(requiring(onnx_artifact, isa="made_up"))
    assert checks["instruction sets"] == (False, "this CPU lacks made_up")


def test_an_older_runtime_than_needed_fails(onnx_artifact):
    passed, text = found(requiring(onnx_artifact, onnxruntime="999.0"))["onnxruntime"]
    assert not passed
    assert "999.0 or later needed" in text


def test_a_graph_in_fp8_asks_for_a_gpu_that_multiplies_it_and_a_cpu_rounds(onnx_artifact):
    artifact = requiring(onnx_artifact, compute_capability="8.9")
    checks = found(artifact)
    assert checks["compute capability"] == (True, "an engine of it needs 8.9 or more (fp8)")
    assert checks["scores"][0]
    lesser = {x[0]: x[1:] for x in check_artifact(artifact, Target(compute_capability="8.0"))}
    passed, text = lesser["compute capability"]
    assert not passed
    assert text == "fp8 needs 8.9 or more, the target has 8.0: take int8 or fp16 there"
    with pytest.raises(UserError, match="say where TensorRT's engines are to run"):
        check_artifact(onnx_artifact, Target(compute_capability="8.0"))
