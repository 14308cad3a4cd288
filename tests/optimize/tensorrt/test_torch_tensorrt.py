"""What Torch-TensorRT is told, where its library runs, and the buckets it runs in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from optimize.artifact import Artifact, ArtifactError
from optimize.build import run_stage
from optimize.capture import capture
from optimize.requirements import check_artifact
from optimize.runtimes import open_predictor
from optimize.runtimes.torch_tensorrt_library import SETTING, in_buckets, refuse_elsewhere
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.stages.torch_tensorrt import _shapes, program_for_tensorrt
from optimize.static_inputs import columns_of
from optimize.tensorrt.compatibility import Target
from optimize.tensorrt.torch_options import TorchBuildOptions, compile_options
from optimize.torch_program import load_program
from optimize.versions import missing_library
from rankers.errors import UserError

aten = torch.ops.aten
H200 = Target("11.0.0.114", "NVIDIA H200", "9.0")


@pytest.fixture(scope="module")
def programs(store):
    import example_rankers

    flat = capture(example_rankers.tiny(), store, candidates=(1, 37))
    return {"flat": flat, "user_once": run_stage("user_once", {"when": "always"}, flat, store)}


def library_manifest(manifest, **options):
    setting = {
        "built": H200.to_json(),
        "options": TorchBuildOptions(**options).to_json(),
        "sizes": [4, 16, 64],
        "beyond": "split",
    }
    requires = {"torch": "2.13.0", "tensorrt": H200.tensorrt}
    return replace(
        manifest, format="torch_tensorrt", settings={SETTING: setting}, requires=requires
    )


class TestOptions:
    def told(self, version="2.13.0", **options):
        return compile_options(TorchBuildOptions(**options), version, timing_cache="t.cache")

    def test_types_are_the_programs(self):
        for precision in ("fp32", "fp16", "bf16"):
            found = self.told(precision=precision)
            assert not [each for each in found if "autocast" in each or "precision" in each]

    @pytest.mark.parametrize(
        ("version", "said"), [("2.11.0", True), ("2.12.1+cu130", True), ("2.13.0", False)]
    )
    def test_strong_types_are_asked_for_where_they_are_not_the_only_kind(self, version, said):
        assert ("use_explicit_typing" in self.told(version)) == said

    def test_float32_is_not_tf32_unless_asked_for(self):
        assert self.told()["disable_tf32"] is True
        assert self.told(tf32=True)["disable_tf32"] is False

    def test_an_old_version_is_refused(self):
        with pytest.raises(UserError, match=r"torch-tensorrt 2\.9\.0 is installed; 2\.11 or later"):
            self.told("2.9.0")

    @pytest.mark.parametrize("wrong", [{"level": 6}, {"least_block": 0}])
    def test_a_number_out_of_range_is_refused(self, wrong):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} is "):
            TorchBuildOptions(**wrong)

    def test_every_input_has_a_range_up_to_the_greatest_bucket(self, programs):
        columns = columns_of(programs["user_once"].manifest)
        found = {each["name"]: each for each in _shapes(columns, 16, 64)}
        assert set(found) == set(programs["user_once"].manifest.inputs)
        assert [found["item"][f"{x}_shape"] for x in ("min", "opt", "max")] == [(1,), (16,), (64,)]
        assert {found["country"][f"{x}_shape"] for x in ("min", "opt", "max")} == {(1,)}
        assert str(found["item"]["dtype"]) == "torch.int64"


class TestLibrary:
    @pytest.mark.parametrize("layout", ["flat", "user_once"])
    def test_in_buckets_a_program_scores_as_it_does_without(self, layout, programs):
        program = programs[layout]
        module = load_program(program.model_path).module(check_guards=False)
        predict = in_buckets(module, library_manifest(program.manifest), device="cpu")
        plain = open_predictor(program)
        for counts in ([1], [4], [11], [64], [65], [3, 1, 130]):
            given = program.manifest.columns_of(sample_requests(program.manifest.signature, counts))
            np.testing.assert_allclose(predict(given), plain(given), atol=1e-6)

    def test_it_runs_on_the_torch_the_tensorrt_and_the_gpu_that_it_was_built_for(self, programs):
        manifest = library_manifest(programs["flat"].manifest)
        refuse_elsewhere(manifest, H200, "2.13.0")
        with pytest.raises(ArtifactError) as found:
            refuse_elsewhere(manifest, Target("11.1.0", "NVIDIA A10", "8.6"), "2.14.0")
        for said in ("built by 11.0.0.114", "built for 9.0", "compiled for torch 2.13.0"):
            assert said in str(found.value)

    def test_what_was_built_to_be_compatible_runs_elsewhere(self, programs):
        manifest = library_manifest(
            programs["flat"].manifest, version_compatible=True, ampere_plus=True
        )
        refuse_elsewhere(manifest, Target("11.1.0", "NVIDIA A10", "8.6"), "2.13.0")

    def test_check_holds_it_against_a_server_that_is_elsewhere(self, programs):
        library = Artifact(programs["flat"].folder, library_manifest(programs["flat"].manifest))
        target = Target("11.1.0", "NVIDIA H200", "9.0")
        found = {name: passed for name, passed, _ in check_artifact(library, target)}
        assert (found["TensorRT"], found["GPU"]) == (False, True)
        assert "scores" not in found

    def test_on_a_cpu_it_is_not_opened(self, programs):
        library = Artifact(programs["flat"].folder, library_manifest(programs["flat"].manifest))
        with pytest.raises(UserError, match="torch_tensorrt artifact runs on cuda; 'cpu' was"):
            open_predictor(library)


class TestStage:
    @pytest.mark.parametrize("layout", ["flat", "user_once"])
    def test_products_are_narrowed_and_ids_are_not(self, layout, programs):
        """Torch-TensorRT's own autocast narrows IDs too, which lookups do not take."""
        program = programs[layout]
        narrowed = program_for_tensorrt(program, "fp16", "8.0")
        products = [each for each in narrowed.graph.nodes if each.target is aten.linear.default]
        assert products
        assert all(each.meta["val"].dtype == torch.float16 for each in products)
        for each in narrowed.graph.nodes:
            if each.target is aten.embedding.default:
                assert each.args[1].meta["val"].dtype == torch.int64
        columns = program.manifest.columns_of(sample_requests(program.manifest.signature, [5, 1]))
        with torch.no_grad():
            given = [torch.from_numpy(columns[name]) for name in program.manifest.inputs]
            found = narrowed.module()(*given).numpy()
        np.testing.assert_allclose(found, open_predictor(program)(columns), atol=5e-3)

    def test_without_torch_tensorrt_what_to_install_is_said(self, programs, store):
        if missing_library(["torch-tensorrt"]) is None:
            pytest.skip("Torch-TensorRT is installed")
        with pytest.raises(UserError, match=r"torch-tensorrt is not installed: pip install 'rank"):
            run_stage("torch_tensorrt", {}, programs["flat"], store)

    def test_the_pickled_program_is_saved_only_if_asked_for(self, tmp_path):
        for asked, names in ((False, ["model.trt.pt2"]), (True, ["model.trt.pt2", "model.ep"])):
            stage = make_stage("torch_tensorrt", {"exported_program": asked})
            assert [path.name for path, _ in stage._files(tmp_path)] == names
