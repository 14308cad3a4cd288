"""A plan in a repository: its config says what it was built for, and where it may serve."""

import json

import dense_ranker
import pytest
from click.testing import CliRunner

from optimize.artifact import open_artifact, seal
from optimize.buckets import Buckets
from optimize.cli import main
from optimize.tensorrt.building import BuildOptions, engine_profiles
from optimize.tensorrt.compatibility import Target
from optimize.tensorrt.plan import PLAN, PlanFacts, plan_manifest
from optimize.triton.config import ServingOptions, read_config
from optimize.triton.repository import deploy
from rankers.errors import UserError

H200 = Target("10.9.0.34", "NVIDIA H200", "9.0")
SIZES = (8, 64, 512)


def make_plan(folder, mode="one", **options):
    """Seal an artifact as the stage does; what is in its plan is no engine."""
    graph = dense_ranker.make_artifact(folder / "graph")
    profiles = engine_profiles(
        dense_ranker.SIGNATURE, Buckets(SIZES), usual=64, requests=4, mode=mode
    )
    facts = PlanFacts(H200, BuildOptions(**options), profiles, SIZES, "split", 4, "0" * 64)
    (folder / "plan").mkdir()
    (folder / "plan" / PLAN).write_bytes(b"machine code")
    return seal(folder / "plan", plan_manifest(graph.manifest, facts, "build_tensorrt: a test"))


@pytest.fixture
def plan(tmp_path):
    return make_plan(tmp_path)


def deployed(plan, repository, **options):
    given = ServingOptions(backend="tensorrt", **options)
    return deploy(plan, repository, "tiny", options=given, ungated=True)


def config_of(plan, repository, **options):
    folder = deployed(plan, repository, **options).folder.parent
    return read_config((folder / "config.pbtxt").read_text(), "config.pbtxt")


class TestDeploy:
    def test_the_plan_lies_where_triton_looks_and_the_config_is_that_of_a_plan(
        self, plan, tmp_path
    ):
        folder = deployed(plan, tmp_path / "models").folder
        assert (folder / "model.plan").read_bytes() == b"machine code"
        assert not (folder / "model.py").exists()
        config = config_of(plan, tmp_path / "models")
        assert (config.platform, config.backend) == ("tensorrt_plan", "")
        assert not any(each.allow_ragged_batch for each in config.input)
        assert [list(each.dims) for each in config.input] == [[16], [-1, 1], [-1, 8]]

    def test_what_it_was_built_for_decides_joined_requests_sizes_and_warm_ups(self, plan, tmp_path):
        config = config_of(plan, tmp_path / "models", max_batch_size=16)
        assert config.max_batch_size == 4
        assert config.parameters["max_candidates"].string_value == "512"
        warmed = [(x.batch_size, x.inputs["item_int64"].dims[0]) for x in config.model_warmup]
        assert warmed[:3] == [(1, 8), (1, 64), (1, 512)]
        graphs = config.optimization.cuda.graph_spec
        assert [each.input["item_int64"].dim[0] for each in graphs] == [8, 64, 512]

    @pytest.mark.parametrize(("mode", "profiles"), [("one", ["0"]), ("buckets", ["0", "1", "2"])])
    def test_instances_have_every_profile(self, mode, profiles, tmp_path):
        (group,) = config_of(make_plan(tmp_path, mode), tmp_path / "models").instance_group
        assert list(group.profile) == profiles
        assert (group.kind, group.count) == (group.KIND_GPU, 2)

    def test_the_same_plan_keeps_its_version_and_another_gets_the_next(self, plan, tmp_path):
        repository = tmp_path / "models"
        assert [deployed(plan, repository).version for _ in range(2)] == [1, 1]
        other = make_plan(tmp_path / "other", "buckets")
        assert deployed(other, repository).version == 2

    def test_a_plan_goes_behind_no_other_backend(self, plan, tmp_path):
        for backend in ("python", "onnxruntime"):
            with pytest.raises(UserError, match=rf"behind the backend '{backend}'.*--backend tens"):
                deploy(
                    plan, tmp_path / "models", "tiny",
                    options=ServingOptions(backend=backend), ungated=True,
                )  # fmt: skip

    def test_nor_another_artifact_into_its_place(self, plan, tmp_path):
        graph = open_artifact(plan.folder.parent / "graph")
        deployed(plan, tmp_path / "models")
        with pytest.raises(UserError, match="deployed behind the backend 'tensorrt'"):
            deploy(graph, tmp_path / "models", "tiny", ungated=True)

    def test_the_command_says_where_it_serves_and_what_the_server_needs(self, tmp_path):
        plan = make_plan(tmp_path, version_compatible=True)
        options = ["--backend", "tensorrt", "--ungated", "--repository", str(tmp_path / "models")]
        found = CliRunner().invoke(main, ["deploy", str(plan.folder), *options])
        assert found.exit_code == 0, found.output
        assert "built by TensorRT 10.9.0.34 on NVIDIA H200" in found.output
        assert "--backend-config=tensorrt,version-compatible=true" in found.output


class TestCheck:
    def check(self, plan, *options):
        found = CliRunner().invoke(main, ["check", str(plan.folder), "--json", *options])
        said = json.loads(found.stdout) if found.exit_code < 2 else {}
        return found, {each["check"]: each["passed"] for each in said.get("checks", ())}

    def test_a_target_of_the_same_version_and_gpu_passes_but_for_the_gates(self, plan):
        _, checks = self.check(
            plan, "--tensorrt", "10.9", "--gpu", "NVIDIA H200", "--compute-capability", "9.0"
        )
        assert checks == {
            "checksums": True,
            "TensorRT": True,
            "compute capability": True,
            "GPU": True,
            "gates": False,  # none looked at it
        }

    def test_another_target_fails_with_exit_code_1(self, plan):
        found, checks = self.check(plan, "--tensorrt", "10.15.1", "--compute-capability", "8.9")
        assert found.exit_code == 1
        assert (checks["TensorRT"], checks["compute capability"]) == (False, False)
        assert "GPU" not in checks

    def test_without_a_target_it_is_this_machine_or_what_is_missing(self, plan):
        import importlib.util

        if importlib.util.find_spec("tensorrt"):
            pytest.skip("TensorRT is installed")
        found, checks = self.check(plan)
        assert found.exit_code == 1
        assert checks["TensorRT"] is False
        assert "say where it is to serve: --tensorrt" in found.stdout

    @pytest.mark.parametrize("wrong", [("--tensorrt", "ten"), ("--compute-capability", "sm_90")])
    def test_a_target_that_makes_no_sense_is_wrong_use(self, wrong, plan):
        found, _ = self.check(plan, *wrong)
        assert found.exit_code == 2

    def test_a_target_is_for_plans_alone(self, plan):
        graph = open_artifact(plan.folder.parent / "graph")
        found, _ = self.check(graph, "--tensorrt", "10.9")
        assert found.exit_code == 2
        ranker = CliRunner().invoke(main, ["check", "two_tower", "--tensorrt", "10.9"])
        assert ranker.exit_code == 2
        assert "are for a TensorRT plan's folder" in ranker.output

    def test_a_plan_that_was_changed_is_found(self, plan):
        plan.model_path.write_bytes(b"machine c0de")
        found, _ = self.check(plan, "--tensorrt", "10.9")
        assert found.exit_code == 2
        assert "SHA-256" in found.output
