"""An engine that the serving image builds: its graph, its script, the start of the container."""

import os
import subprocess
from pathlib import Path

import dense_ranker
import onnx
import pytest
from click.testing import CliRunner

from optimize.artifact import seal
from optimize.cli import main
from optimize.recipe import load_recipe
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.tensorrt.building import BuildOptions, engine_profiles
from optimize.tensorrt.script import build_script, engine_script, recipe_script
from optimize.triton.config import ServingOptions, read_config
from optimize.triton.gpu_config import engine_profile, serving_buckets
from optimize.triton.repository import deploy

ROOT = Path(__file__).parents[3]
START = ROOT / "optimize" / "triton" / "container" / "serve-models"
OPTIONS = ServingOptions(
    backend="tensorrt", max_candidates=256, warm_up_candidates=(1, 64), max_batch_size=4
)
# In place of trtexec: says what it was told, and writes the plan it was told to.
TRTEXEC = """#!/bin/sh
if [ "$1" = --help ]; then echo "  --stronglyTyped  Create a strongly typed network"; exit 0; fi
printf '%s\\n' "$@" > told
for each in "$@"; do
  case $each in --saveEngine=*) echo plan > "${each#*=}";; esac
done
[ ! -e broken ]
"""


@pytest.fixture(params=["flat", "user_once"])
def version(request, tmp_path):
    graph = dense_ranker.make_artifact(tmp_path / "graph", layout=request.param)
    made = deploy(graph, tmp_path / "models", "tiny", options=OPTIONS, ungated=True)
    return made.folder


@pytest.fixture
def stand_ins(tmp_path):
    """A path on which trtexec and tritonserver are stand-ins."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (
        ("trtexec", TRTEXEC), ("tritonserver", '#!/bin/sh\nprintf "serves %s\\n" "$*"\n'),
    ):  # fmt: skip
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def start(repository, stand_ins):
    environment = stand_ins | {"MODEL_REPOSITORY": str(repository)}
    return subprocess.run(
        ["/bin/sh", str(START), "--log-info=1"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_version_holds_the_dense_graph_and_the_script_of_its_engine(version):
    assert not (version / "model.plan").exists()
    inputs = {
        each.name: [x.dim_param or x.dim_value for x in each.type.tensor_type.shape.dim]
        for each in onnx.load(version / "model.onnx").graph.input
    }
    assert inputs == {
        "user_float32": ["requests", 16],
        "item_int64": ["requests", "candidates", 1],
        "item_float32": ["requests", "candidates", 8],
    }
    script = (version / "build-engine.sh").read_text()
    assert "--minShapes=user_float32:1x16,item_int64:1x1x1,item_float32:1x1x8" in script
    assert "--maxShapes=user_float32:4x16,item_int64:4x256x1,item_float32:4x256x8" in script


def test_the_config_is_that_of_the_plan_it_will_be(version):
    path = version.parent / "config.pbtxt"
    config = read_config(path.read_text(), path)
    assert config.platform == "tensorrt_plan"
    assert config.max_batch_size == 4
    graphs = [each.input["item_int64"].dim[0] for each in config.optimization.cuda.graph_spec]
    assert graphs == [1, 64, 256]


def test_deployed_again_it_keeps_its_version_but_not_with_other_sizes(tmp_path):
    graph = dense_ranker.make_artifact(tmp_path / "graph")

    def deployed(**changed):
        options = ServingOptions(**{"backend": "tensorrt", "max_candidates": 4096} | changed)
        return deploy(graph, tmp_path / "models", "tiny", options=options, ungated=True).version

    assert [deployed(), deployed(), deployed(max_candidates=8000)] == [1, 1, 2]


def test_the_container_builds_what_has_no_plan_and_then_serves(version, stand_ins):
    done = start(version.parents[1], stand_ins)
    assert done.returncode == 0, done.stderr
    assert (version / "model.plan").read_text() == "plan\n"
    told = (version / "told").read_text().splitlines()
    assert told[0] == "--stronglyTyped"
    assert {"--onnx=model.onnx", "--noTF32", "--skipInference"} < set(told)
    assert "serves --model-repository=" in done.stdout
    assert "--log-info=1" in done.stdout

    (version / "told").unlink()
    again = start(version.parents[1], stand_ins)
    assert again.returncode == 0
    assert not (version / "told").exists()


def test_an_engine_that_cannot_be_built_leaves_no_plan_and_no_server(version, stand_ins):
    (version / "broken").touch()
    done = start(version.parents[1], stand_ins)
    assert done.returncode != 0
    assert "serves" not in done.stdout
    assert not (version / "model.plan").exists()


def fp8_version(tmp_path):
    """Deploy a graph in fp8 for an engine that the image builds."""
    graph = dense_ranker.make_artifact(tmp_path / "graph")
    stage = make_stage("quantize_static", {"placement": "tensorrt", "weights": "fp8"})
    folder = tmp_path / "fp8"
    folder.mkdir()
    requests = sample_requests(dense_ranker.SIGNATURE, [8] * 4)
    made = seal(folder, stage.run(graph, folder, requests))
    return deploy(made, tmp_path / "models", "tiny", options=OPTIONS, ungated=True).folder


@pytest.mark.parametrize(
    ("capability", "builds"), [("8.0", False), ("8.9", True), ("10.0", True), (None, True)]
)
def test_an_engine_in_fp8_is_built_by_gpus_that_multiply_it(
    capability, builds, tmp_path, stand_ins
):
    if capability:  # in place of nvidia-smi; without it nobody knows, and the builder will say
        file = Path(stand_ins["PATH"].split(":")[0]) / "nvidia-smi"
        file.write_text(f"#!/bin/sh\necho {capability}\n")
        file.chmod(0o755)
    version = fp8_version(tmp_path)
    done = start(version.parents[1], stand_ins)
    assert (done.returncode == 0) == builds, done.stderr
    assert (version / "model.plan").exists() == builds
    if not builds:
        assert "fp8, which needs compute capability 8.9 or more; this GPU has 8.0" in done.stderr


def test_a_repository_without_plans_is_served_as_it_is(tmp_path, stand_ins):
    (tmp_path / "models" / "other" / "1").mkdir(parents=True)
    done = start(tmp_path / "models", stand_ins)
    assert done.stdout.startswith("serves --model-repository=")


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (BuildOptions(), {"--noTF32"}),
        (BuildOptions(tf32=True, workspace_mib=64), {"--memPoolSize=workspace:64"}),
        (
            BuildOptions(version_compatible=True, hardware="ampere_plus"),
            {"--versionCompatible", "--hardwareCompatibilityLevel=ampere+", "--noTF32"},
        ),
    ],
)
def test_scripts_parse_and_say_what_the_builder_would_be_told(options, flags):
    profile = engine_profile(OPTIONS, dense_ranker.SIGNATURE)
    script = engine_script("model.onnx", profile, options, name="it's\nmine")
    fp8 = engine_script("model.onnx", profile, options, name="fp8", least="8.9")
    whole = build_script("model.onnx", profile, name="fp8", least="8.9")
    for text in (script, fp8, whole, recipe_script("gpu-trt"), START.read_text()):
        subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=True)
        subprocess.run(["/bin/bash", "-n"], input=text, text=True, check=True)
    said = {line.strip(" \\") for line in script.splitlines()}
    known = {"--noTF32", "--versionCompatible"}
    found = {x for x in said if x in known or x.startswith(("--memPool", "--hardware"))}
    assert found == flags


def test_the_image_builds_for_what_the_stage_would():
    made = engine_profiles(
        dense_ranker.SIGNATURE, serving_buckets(OPTIONS), usual=64, requests=4, mode="one"
    )
    assert made == (engine_profile(OPTIONS, dense_ranker.SIGNATURE),)


class TestRecipe:
    def test_engines_are_measured_in_turn_and_gated_as_graphs_before(self):
        recipe = load_recipe("gpu-trt")
        branches = {each.name: [use.name for use in each.stages] for each in recipe.branches}
        first, second, third = (
            branches[f"engine, {each}"] for each in ("fp16", "int8 and fp16", "fp8 and fp16")
        )
        assert branches["torch-tensorrt, fp16"] == ["torch_tensorrt"]
        for kind in ("int8", "fp8"):
            rival = branches[f"torch-tensorrt, {kind} and fp16"]
            assert rival == ["quantize_program", "torch_tensorrt"]
        assert first[-2:] == ["half_precision", "build_tensorrt"]
        assert first.index("tensorrt_operators") < first.index("half_precision")
        assert [each for each in second if each not in first] == ["quantize_static"]
        assert third == second
        for branch, weights in zip(recipe.branches[1:3], ("int8", "fp8"), strict=True):
            (quantize,) = [x for x in branch.stages if x.name == "quantize_static"]
            assert (quantize.stage.placement, quantize.stage.weights) == ("tensorrt", weights)
            assert quantize.keep == "always"  # a CPU is slower by it, which says nothing of a GPU

    def test_its_script_runs_it_in_the_container_of_the_servers_month(self, tmp_path):
        graph = dense_ranker.make_artifact(tmp_path / "graph")
        options = ["preflight", str(graph.folder), "--recipe-script"]
        found = CliRunner().invoke(main, [*options, "gpu-trt"])
        assert found.exit_code == 0
        month = (ROOT / "Dockerfile.triton").read_text().split("tritonserver:")[1].split("-")[0]
        assert f"nvcr.io/nvidia/tensorrt:{month}-py3" in found.stdout
        assert '--recipe "$2" --device cuda --out "$3"' in found.stdout
        assert CliRunner().invoke(main, [*options, "gpu-tr"]).exit_code == 2
