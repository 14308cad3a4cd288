"""Every runtime scores as the original does, at any size, and opens nothing of another CPU."""

import re
import shutil
from dataclasses import replace
from importlib import metadata

import example_rankers
import numpy as np
import pytest
import torch

import bench.environment
from optimize.artifact import Artifact, open_artifact
from optimize.build import run_stage
from optimize.capture import capture
from optimize.devices import unmet_device
from optimize.gates import judge
from optimize.gpu_graphs import GRAPHS
from optimize.recipe import ParityLimits, QualityLimits
from optimize.runtimes import RUNTIMES, default_threads, open_predictor, physical_cores
from optimize.samples import sample_requests
from optimize.stages import make_stage
from rankers.errors import UserError

# The stages from a torch program to each format.
WAYS = {
    "torch": (),
    "onnx": ("export_onnx",),
    "openvino": ("export_onnx", "export_openvino"),
    "inductor": ("compile_inductor",),
}
SIZES = (1, 2, 37, 200)


@pytest.fixture(scope="module")
def programs(store):
    flat = capture(example_rankers.tiny(), store, candidates=SIZES)
    return {"flat": flat, "user_once": run_stage("user_once", {"when": "always"}, flat, store)}


def convert(program, way, store):
    for stage in way:
        program = run_stage(stage, {}, program, store)
    return program


def test_each_format_is_tried_here():
    # TensorRT is nowhere in these tests (docs/tensorrt.md); tests/optimize/tensorrt has the rest.
    assert {*WAYS, "tensorrt", "torch_tensorrt"} == set(RUNTIMES)


@pytest.mark.parametrize(
    ("kind", "layout"),
    # Compiling takes seconds, and a flat program is the simpler one.
    [(kind, "flat") for kind in WAYS if kind != "inductor"]
    + [(kind, "user_once") for kind in WAYS],
)
def test_every_gate_passes_at_every_size(kind, layout, programs, store):
    made = convert(programs[layout], WAYS[kind], store)
    assert made.manifest.layout == layout
    assert made.manifest.format == kind
    parity, quality = judge(made, programs["flat"], ParityLimits(), QualityLimits())
    assert parity.passed, parity.reason
    assert set(parity.numbers["max_abs_at"]) == {"evaluation", *(f"N={each}" for each in SIZES)}
    assert quality.passed, quality.reason


@pytest.mark.parametrize("kind", WAYS)
def test_users_together_score_as_each_alone(kind, programs, store):
    made = convert(programs["user_once"], WAYS[kind], store)
    predict, columns_of = open_predictor(made), made.manifest.columns_of
    together = sample_requests(made.manifest.signature, (3, 1, 30))
    alone = np.concatenate([predict(columns_of(each)) for each in together])
    np.testing.assert_allclose(predict(columns_of(together)), alone, atol=1e-6)


def test_scores_of_one_call_are_not_overwritten_by_the_next(programs, store):
    for way in WAYS.values():
        made = convert(programs["user_once"], way, store)
        predict, columns_of = open_predictor(made), made.manifest.columns_of
        first, second = (sample_requests(made.manifest.signature, (n,)) for n in (5, 6))
        kept = predict(columns_of(first))
        copy = kept.copy()
        predict(columns_of(second))
        np.testing.assert_array_equal(kept, copy)


@pytest.mark.parametrize("kind", WAYS)
def test_what_was_made_for_another_cpu_is_not_opened(kind, programs, store):
    made = convert(programs["user_once"], WAYS[kind], store)
    requires = made.manifest.requires | {"isa": "avx2 made_up"}
    elsewhere = Artifact(made.folder, replace(made.manifest, requires=requires))
    with pytest.raises(UserError, match="made for a CPU with made_up, which this one lacks"):
        open_predictor(elsewhere)


def test_openvino_multiplies_in_float32_unless_asked(programs, store):
    graph = convert(programs["flat"], WAYS["onnx"], store)
    single = run_stage("export_openvino", {}, graph, store)
    half = run_stage("export_openvino", {"precision": "bf16"}, graph, store)
    assert (single.manifest.precision, half.manifest.precision) == ("fp32", "bf16")
    assert "isa" not in single.manifest.requires
    assert half.manifest.requires["isa"] == "avx512_bf16"


def test_a_missing_library_is_one_line_that_says_how_to_install_it(programs, store, monkeypatch):
    graph = convert(programs["flat"], WAYS["onnx"], store)
    made = convert(graph, ("export_openvino",), store)
    distribution = metadata.distribution

    def without(name):
        if name == "openvino":
            raise metadata.PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(metadata, "distribution", without)
    said = r"^openvino is not installed: pip install 'rankserve\[openvino\]'$"
    with pytest.raises(UserError, match=said):
        run_stage("export_openvino", {}, graph, store)
    with pytest.raises(UserError, match=said):
        open_predictor(made)


class TestInductor:
    def test_the_manifest_names_the_instruction_sets_that_the_code_may_use(self, programs, store):
        made = convert(programs["user_once"], WAYS["inductor"], store)
        needed = made.manifest.requires["isa"].split()
        assert needed
        assert set(needed) <= set(bench.environment.environment().isa)

    def test_products_take_any_number_of_rows_without_new_kernels(self, programs, store):
        code = convert(programs["user_once"], WAYS["inductor"], store).model_path.read_bytes()
        assert b"aoti_torch_cpu_mm_out" in code
        assert b"linear_pointwise" not in code  # oneDNN's, with packed weights

    def test_products_in_bf16_are_for_cpus_that_have_them(
        self, programs, store, monkeypatch, tmp_path
    ):
        here = bench.environment.environment()
        others = tuple(each for each in here.isa if each != "avx512_bf16")

        def have(*isa):
            changed = replace(here, isa=isa)
            monkeypatch.setattr(bench.environment, "environment", lambda: changed)

        have(*others)
        said = "^products in bf16 need a CPU with avx512_bf16, which this one lacks$"
        half = {"precision": "bf16"}
        assert re.match(said, unmet_device([make_stage("compile_inductor", half)], "cpu"))
        with pytest.raises(UserError, match=said):
            run_stage("compile_inductor", half, programs["user_once"], store)

        have(*others, "avx512_bf16")  # any other computes the same, and takes longer
        settings = {GRAPHS: {"precision": "fp16"}}
        source = programs["user_once"]
        in_buckets = Artifact(source.folder, replace(source.manifest, settings=settings))
        with pytest.raises(UserError, match="cpu without buckets alone; else cuda_graphs says it"):
            make_stage("compile_inductor", half).run(in_buckets, tmp_path)
        made = run_stage("compile_inductor", half, source, store)
        assert made.manifest.precision == "bf16"
        assert "avx512_bf16" in made.manifest.requires["isa"].split()
        columns = made.manifest.columns_of(sample_requests(made.manifest.signature, (30, 1)))
        exact = open_predictor(programs["user_once"])(columns)
        assert 0 < np.abs(open_predictor(made)(columns) - exact).max() < 0.01

        have(*others)
        with pytest.raises(UserError, match="made for a CPU with avx512_bf16, which this one"):
            open_predictor(made)

    def test_code_of_another_release_of_torch_is_not_loaded(self, programs, store):
        made = convert(programs["user_once"], WAYS["inductor"], store)
        requires = made.manifest.requires | {"torch": "2.0.0"}
        older = Artifact(made.folder, replace(made.manifest, requires=requires))
        with pytest.raises(UserError, match=r"compiled for torch 2\.0\.0; .* run the recipe again"):
            open_predictor(older)

    def test_no_compiler_is_one_line(self, programs, tmp_path):
        from torch._inductor import config

        # monkeypatch would take the setting away afterwards, and later tests compile too.
        nowhere = config.patch({"cpp.cxx": ("/nowhere/g++",)})
        with (
            nowhere,
            pytest.raises(UserError, match=r"^compile_inductor needs a C\+\+ compiler"),
        ):
            run_stage("compile_inductor", {}, programs["flat"], tmp_path)

    def test_a_changed_library_is_refused_before_it_is_loaded(self, programs, store, tmp_path):
        made = convert(programs["user_once"], WAYS["inductor"], store)
        shutil.copytree(made.folder, tmp_path / "changed")
        library = tmp_path / "changed" / made.manifest.model
        content = bytearray(library.read_bytes())
        content[len(content) // 2] ^= 1
        library.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.aoti\.pt2: its SHA-256 is not the manifest's"):
            open_artifact(tmp_path / "changed")


class TestSettings:
    OPTIONS = ({"threads": 1}, {"spinning": True}, {"arena": False}, {"io_binding": True})

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_a_session_opened_otherwise_is_another_artifact_of_the_same_scores(
        self, options, programs, store
    ):
        graph = convert(programs["user_once"], WAYS["onnx"], store)
        made = run_stage("onnx_session", options, graph, store)
        assert made.manifest.settings.items() >= options.items()
        assert made.key != graph.key
        requests = sample_requests(graph.manifest.signature, (3, 1, 30))
        columns = graph.manifest.columns_of(requests)
        np.testing.assert_array_equal(open_predictor(made)(columns), open_predictor(graph)(columns))

    def test_threads_are_the_artifacts_own_or_the_environments_or_the_cores(
        self, programs, store, monkeypatch
    ):
        graph = convert(programs["flat"], WAYS["onnx"], store)
        made = run_stage("onnx_session", {"threads": 7}, graph, store)
        for said, threads in (("5", 5), ("0", physical_cores()), ("4,3", physical_cores())):
            monkeypatch.setenv("OMP_NUM_THREADS", said)
            assert (default_threads(graph), default_threads(made)) == (threads, 7)
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert default_threads(graph) == physical_cores()

    def test_what_a_stage_converts_does_not_inherit_them(self, programs, store):
        graph = run_stage(
            "onnx_session",
            {"spinning": True},
            convert(programs["flat"], WAYS["onnx"], store),
            store,
        )
        assert run_stage("export_openvino", {}, graph, store).manifest.settings == {}
        assert run_stage("optimize_onnx", {}, graph, store).manifest.settings["spinning"]

    def test_torch_compiles_when_opened_if_the_artifact_says_so(self, programs, store):
        # Compiling takes long; in this stance what torch.compile returned runs without.
        with torch.compiler.set_stance("force_eager"):
            made = run_stage("torch_compile", {}, programs["flat"], store)
            columns = made.manifest.columns_of(sample_requests(made.manifest.signature, (5,)))
            expected = open_predictor(programs["flat"])(columns)
            np.testing.assert_array_equal(open_predictor(made)(columns), expected)
        with (
            torch.compiler.set_stance("fail_on_recompile"),
            pytest.raises(RuntimeError, match="fail_on_recompile"),
        ):
            open_predictor(made)
