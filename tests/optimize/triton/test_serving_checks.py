"""What a model lacks on this machine is said in a line, and before a server is started."""

import example_rankers
import pytest
from click.testing import CliRunner

from optimize.build import run_stage
from optimize.capture import capture
from optimize.commands.deploy import deploy as deploy_command
from optimize.runtimes.onnx_providers import missing_provider
from optimize.triton.config import ServingOptions
from optimize.triton.embedded import ServerError, serve
from optimize.triton.repository import deploy
from optimize.triton.serving_checks import missing_here

CUDA = ServingOptions(accelerator="cuda")


@pytest.fixture(scope="module")
def made(store):
    graph = run_stage(
        "export_onnx", {}, capture(example_rankers.tiny(), store, candidates=(1, 37)), store
    )
    return run_stage("onnx_gpu_session", {"sizes": "4,16"}, graph, store)


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_on_the_cpu_nothing_is_missing(made, repository, no_gpu):
    deploy(made, repository, "feed", ungated=True)
    assert missing_here(repository / "feed", None, 1) == ""


def test_instances_for_a_gpu_say_that_there_is_none(made, repository, no_gpu):
    deploy(made, repository, "feed", options=CUDA, ungated=True)
    said = missing_here(repository / "feed", None, 1)
    assert said.startswith("its instances are for a GPU (config.pbtxt): no CUDA device: torch ")


def test_a_graph_says_what_to_install_where_onnx_runtime_has_no_cuda(made, repository, a_gpu):
    if missing_provider("cuda") is None:
        pytest.skip("a build for GPUs")
    deploy(made, repository, "feed", options=CUDA, ungated=True)
    said = missing_here(repository / "feed", None, 1)
    assert said.startswith("its graph runs on a GPU by ONNX Runtime: onnxruntime ")
    assert "has no CUDAExecutionProvider" in said
    assert "pip install onnxruntime-gpu" in said


def test_a_program_of_torch_needs_no_provider(store, repository, a_gpu):
    program = capture(example_rankers.tiny(), store, candidates=(1, 37))
    deploy(program, repository, "feed", options=CUDA, ungated=True)
    assert missing_here(repository / "feed", None, 1) == ""


def test_a_configuration_is_judged_by_the_version_that_it_serves(made, store, repository, a_gpu):
    if missing_provider("cuda") is None:
        pytest.skip("a build for GPUs")
    program = capture(example_rankers.tiny(), store, candidates=(1, 37))
    deploy(program, repository, "feed", options=CUDA, ungated=True)
    deploy(made, repository, "feed", options=CUDA, ungated=True, config_name="graph")
    assert missing_here(repository / "feed", None, 2) == ""
    assert "has no CUDAExecutionProvider" in missing_here(repository / "feed", "graph", 2)


def test_where_nothing_can_be_served_no_server_is_set_up_or_started(
    made, repository, tmp_path, no_gpu, monkeypatch
):
    monkeypatch.setenv("RANKSERVE_CACHE", str(tmp_path / "cache"))
    deploy(made, repository, "feed", options=CUDA, ungated=True)
    with (
        pytest.raises(ServerError, match="model 'feed' will not load: its instances are for a GPU"),
        serve(repository, log_file=tmp_path / "triton.log"),
    ):
        pass
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "triton.log").exists()


@pytest.mark.parametrize(("accelerator", "notes"), [("cuda", 1), ("none", 0)])
def test_deploy_says_it_too(made, repository, no_gpu, accelerator, notes):
    given = [str(made.folder), "--repository", str(repository), "--ungated"]
    done = CliRunner().invoke(deploy_command, [*given, "--accelerator", accelerator])
    assert done.exit_code == 0
    assert done.stderr.count("note: not to be served here: its instances are for a GPU") == notes
