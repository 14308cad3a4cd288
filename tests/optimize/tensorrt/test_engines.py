"""What TensorRT is told, which engine runs where, and what is refused."""

import json
import re
from dataclasses import replace

import dense_ranker
import pytest

from optimize.artifact import ArtifactError, seal
from optimize.branches import Branch, MeasureOptions
from optimize.branching import run_branches
from optimize.buckets import Buckets
from optimize.build import run_stage
from optimize.recipe import StageUse
from optimize.runtimes import open_predictor
from optimize.stages import make_stage
from optimize.tensorrt.building import (
    BuildOptions,
    builder_settings,
    engine_profiles,
    profile_holding,
    profiles_json,
    read_profiles,
)
from optimize.tensorrt.compatibility import Promise, Target, compare, refuse_to_build
from optimize.tensorrt.plan import (
    PLAN,
    PlanFacts,
    check_plan,
    plan_manifest,
    read_plan,
    refuse_elsewhere,
    refuse_other_tensors,
)
from optimize.versions import missing_library
from rankers.errors import UserError

H200 = Target("10.9.0.34", "NVIDIA H200", "9.0")
PROFILES = engine_profiles(
    dense_ranker.SIGNATURE, Buckets((8, 64, 512)), usual=64, requests=4, mode="one"
)

needs_tensorrt_missing = pytest.mark.skipif(
    missing_library(["tensorrt"]) is None, reason="TensorRT is installed"
)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    return {
        layout: dense_ranker.make_artifact(folder / layout, layout=layout)
        for layout in ("flat", "user_once")
    }


@pytest.fixture
def plan(tmp_path):
    """An artifact as the stage seals it; what is in its plan is no engine."""
    graph = dense_ranker.make_artifact(tmp_path / "graph")
    facts = PlanFacts(H200, BuildOptions(), PROFILES, (8, 64, 512), "split", 4, "0" * 64)
    folder = tmp_path / "plan"
    folder.mkdir()
    (folder / PLAN).write_bytes(b"machine code")
    return seal(folder, plan_manifest(graph.manifest, facts, "build_tensorrt: for a test"))


class TestProfiles:
    def test_one_reaches_from_a_candidate_to_the_greatest_bucket_and_joined_requests(self):
        (profile,) = PROFILES
        assert profile.shapes == {
            "user_float32": ((1, 16), (1, 16), (4, 16)),
            "item_int64": ((1, 1, 1), (1, 64, 1), (4, 512, 1)),
            "item_float32": ((1, 1, 8), (1, 64, 8), (4, 512, 8)),
        }

    def test_one_for_each_bucket_leaves_no_number_of_candidates_out(self):
        made = engine_profiles(
            dense_ranker.SIGNATURE, Buckets((8, 64, 512)), usual=8, requests=1, mode="buckets"
        )
        spans = [each.shapes["item_int64"] for each in made]
        assert [(least[1], usual[1], most[1]) for least, usual, most in spans] == [
            (1, 8, 8), (9, 64, 64), (65, 512, 512),
        ]  # fmt: skip
        assert [profile_holding(made, n) for n in (1, 8, 9, 64, 65, 512)] == [0, 0, 1, 1, 2, 2]
        with pytest.raises(UserError, match="no profile of the engine takes 513 candidates"):
            profile_holding(made, 513)

    def test_they_read_back_from_json(self):
        assert read_profiles(json.loads(json.dumps(profiles_json(PROFILES)))) == PROFILES


class TestBuilder:
    def test_version_10_is_told_to_be_strongly_typed_and_11_knows_nothing_else(self):
        assert builder_settings(BuildOptions(), "10.9.0.34").network_flags == ("STRONGLY_TYPED",)
        assert builder_settings(BuildOptions(), "11.4.0.106").network_flags == ()
        with pytest.raises(UserError, match=r"TensorRT 8\.6\.1 is installed; .* by 10 or later"):
            builder_settings(BuildOptions(), "8.6.1")

    def test_nothing_but_tf32_is_changed_by_default_and_no_type_is_forced(self):
        found = builder_settings(BuildOptions(), "10.15.1")
        assert (found.set_flags, found.clear_flags) == ((), ("TF32",))
        assert (found.hardware, found.workspace_bytes, found.parser_flags) == ("NONE", 0, ())
        assert builder_settings(BuildOptions(tf32=True), "10.15.1").clear_flags == ()

    @pytest.mark.parametrize(
        "options", [{"version_compatible": True}, {"hardware": "ampere_plus"}], ids=str
    )
    def test_what_is_portable_uses_no_plugin(self, options):
        found = builder_settings(BuildOptions(**options), "10.15.1")
        assert found.parser_flags == ("NATIVE_INSTANCENORM",)

    def test_portability_and_memory_have_tensorrts_names_and_units(self):
        options = BuildOptions(
            version_compatible=True, hardware="same_compute_capability", workspace_mib=2
        )
        found = builder_settings(options, "11.0.0")
        assert found.set_flags == ("VERSION_COMPATIBLE",)
        assert found.hardware == "SAME_COMPUTE_CAPABILITY"
        assert found.workspace_bytes == 2 * 1024 * 1024

    @pytest.mark.parametrize("wrong", [{"level": 6}, {"level": -1}, {"workspace_mib": -1}])
    def test_a_number_out_of_range_is_refused(self, wrong):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} is "):
            BuildOptions(**wrong)


def passed(promise, target, built=H200):
    return [ok for _, ok, _ in compare(built, promise, target)]


class TestCompatibility:
    @pytest.mark.parametrize(
        ("version", "plain", "compatible"),
        [
            ("10.9.0.34", True, True),
            ("10.9", True, True),
            ("10.9.0.35", False, True),
            ("10.15.1", False, True),
            ("10.8.0.43", False, False),
            ("11.0", False, True),
            ("12.0", False, False),
            ("9.3", False, False),
        ],
    )
    def test_a_plan_runs_on_its_own_version_and_a_compatible_one_on_later_ones(
        self, version, plain, compatible
    ):
        assert passed(Promise(), Target(version)) == [plain]
        assert passed(Promise(version_compatible=True), Target(version)) == [compatible]

    @pytest.mark.parametrize(
        ("gpu", "capability", "none", "same", "ampere"),
        [
            ("NVIDIA H200", "9.0", True, True, True),
            ("H200", "9.0", True, True, True),
            ("NVIDIA H100 PCIe", "9.0", False, True, True),
            ("NVIDIA A10", "8.6", False, False, True),
            ("NVIDIA B200", "10.0", False, False, True),
            ("Tesla T4", "7.5", False, False, False),
        ],
    )
    def test_its_gpu_is_the_one_it_was_built_on_unless_it_was_built_for_others(
        self, gpu, capability, none, same, ampere
    ):
        target = Target("", gpu, capability)
        for hardware, expected in (
            ("none", none), ("same_compute_capability", same), ("ampere_plus", ampere),
        ):  # fmt: skip
            assert all(passed(Promise(hardware=hardware), target)) == expected, hardware

    @pytest.mark.parametrize(
        ("capability", "passes"), [("8.0", False), ("8.6", False), ("8.9", True), ("10.0", True)]
    )
    def test_fp8_takes_a_gpu_that_multiplies_it_whatever_else_was_promised(
        self, capability, passes
    ):
        target = Target("", "", capability)
        found = compare(H200, Promise(hardware="ampere_plus"), target, least="8.9")
        assert [ok for _, ok, _ in found] == [passes]
        if not passes:
            assert "fp8 needs 8.9 or more" in found[0][2]

    @pytest.mark.parametrize(
        ("capability", "hardware", "said"),
        [
            ("8.0", "none", "on NVIDIA A100: fp8 needs 8.9 or more, the target has 8.0: take int8"),
            (
                "9.0",
                "ampere_plus",
                "'ampere_plus', every GPU from 8.0 on, and this graph is in fp8",
            ),
        ],
    )
    def test_an_engine_in_fp8_is_not_begun_where_it_cannot_run(self, capability, hardware, said):
        with pytest.raises(UserError, match=re.escape(said)):
            refuse_to_build("8.9", Target("10.9", "NVIDIA A100", capability), hardware)
        refuse_to_build("", Target("10.9", "NVIDIA A100", capability), hardware)
        refuse_to_build("8.9", H200, "same_compute_capability")

    def test_what_is_unknown_of_the_target_is_not_checked(self):
        assert compare(H200, Promise(), Target()) == []

    def test_a_version_that_is_no_numbers_is_refused(self):
        with pytest.raises(UserError, match="tensorrt is 'ten'; expected numbers"):
            Target("ten")


class TestPlan:
    def test_facts_read_back_from_the_manifest(self, plan):
        facts = PlanFacts.of(plan.manifest)
        assert (facts.built, facts.profiles, facts.requests) == (H200, PROFILES, 4)
        assert facts.buckets == Buckets((8, 64, 512))
        assert (plan.manifest.format, plan.manifest.layout) == ("tensorrt", "user_once")

    def test_a_plan_that_was_changed_is_not_loaded(self, plan):
        assert read_plan(plan) == b"machine code"
        plan.model_path.write_bytes(b"machine c0de")
        with pytest.raises(ArtifactError, match=r"SHA-256 is not the manifest's.* is not loaded"):
            read_plan(plan)

    def test_it_is_refused_elsewhere_with_every_reason(self, plan):
        refuse_elsewhere(plan, H200)
        with pytest.raises(ArtifactError) as found:
            refuse_elsewhere(plan, Target("10.15.1.29", "NVIDIA A10", "8.6"))
        for said in ("built by 10.9.0.34", "built for 9.0", "built on NVIDIA H200"):
            assert said in str(found.value)
        assert len(check_plan(plan.manifest, H200)) == 3

    def test_it_needs_what_the_products_of_its_graph_need(self, plan):
        needs = {"onnxruntime": "1.0", "compute_capability": "8.9"}
        graph = replace(plan.manifest, requires=needs)
        made = plan_manifest(graph, PlanFacts.of(plan.manifest), "build_tensorrt: for a test")
        assert made.requires == {"tensorrt": "10.9.0.34", "compute_capability": "8.9"}
        assert all(passed for _, passed, _ in check_plan(made, H200))
        (found,) = check_plan(made, Target("", "", "8.0"))
        assert found[1:] == (
            False, "fp8 needs 8.9 or more, the target has 8.0: take int8 or fp16 there",
        )  # fmt: skip

    def test_an_engine_of_another_graph_is_refused(self):
        names = ["user_float32", "item_int64", "item_float32", "score"]
        refuse_other_tensors(names, dense_ranker.SIGNATURE)
        with pytest.raises(ArtifactError, match="build it of this artifact's graph"):
            refuse_other_tensors([*names[1:], "user"], dense_ranker.SIGNATURE)

    def test_a_manifest_without_facts_is_refused(self, plan):
        with pytest.raises(ArtifactError, match="does not describe a TensorRT plan"):
            PlanFacts.of(replace(plan.manifest, settings={}))

    def test_on_a_cpu_it_is_not_opened(self, plan):
        with pytest.raises(UserError, match="a TensorRT plan runs on cuda; 'cpu' was asked for"):
            open_predictor(plan)

    @needs_tensorrt_missing
    def test_without_tensorrt_what_to_install_is_said(self, plan):
        with pytest.raises(UserError, match=r"tensorrt is not installed: pip install 'ranks.*gpu"):
            open_predictor(plan, device="cuda")


class TestStage:
    @needs_tensorrt_missing
    def test_without_tensorrt_a_branch_is_skipped_with_what_to_install(self, graphs):
        class Steps:
            device = "cuda"

        use = StageUse("build_tensorrt", make_stage("build_tensorrt", {}))
        chosen = run_branches([Branch("engine", (use,))], graphs["flat"], Steps(), MeasureOptions())
        (branch,) = chosen.branches
        assert branch.end == "skipped"
        assert branch.reason == "tensorrt is not installed: pip install 'rankserve[gpu]'"

    @needs_tensorrt_missing
    def test_run_alone_it_says_so_too(self, graphs, store):
        with pytest.raises(UserError, match="tensorrt is not installed: pip install"):
            run_stage("build_tensorrt", {}, graphs["flat"], store)

    @pytest.mark.parametrize("wrong", [{"requests": 0}, {"level": 9}])
    def test_options_out_of_range_are_refused(self, wrong):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} is "):
            make_stage("build_tensorrt", wrong)
