"""Stages ``quantize_dynamic`` and ``quantize_static``: what becomes int8, and what it requires."""

import dataclasses
from dataclasses import replace

import dense_ranker
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bench.environment
from optimize.artifact import seal
from optimize.build import run_stage
from optimize.int8.calibration import calibration_inputs
from optimize.int8.form import form_here
from optimize.requirements import check_artifact
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from rankers.errors import UserError

CALIBRATION = sample_requests(dense_ranker.SIGNATURE, [3, 40, 17, 9, 100, 1])
REQUESTS = sample_requests(dense_ranker.SIGNATURE, [50, 1])


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return dense_ranker.make_artifact(tmp_path_factory.mktemp("flat") / "artifact")


@pytest.fixture(scope="module")
def user_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("once") / "artifact"
    return dense_ranker.make_artifact(folder, layout="user_once")


@pytest.fixture
def cpu(monkeypatch):
    """Let this machine's CPU have some instruction sets."""

    def have(*isa):
        here = dataclasses.replace(bench.environment.environment(), isa=isa)
        monkeypatch.setattr(bench.environment, "environment", lambda: here)

    have("avx2", "avx512f", "avx512_vnni")
    return have


def quantize(stage, artifact, folder, **options):
    made = make_stage(stage, options)
    folder.mkdir()
    given = (CALIBRATION,) if stage == "quantize_static" else ()
    return seal(folder, made.run(artifact, folder, *given))


def scores(artifact):
    return open_predictor(artifact, threads=1)(artifact.manifest.columns_of(REQUESTS))


def kinds_of(artifact):
    return [each.op_type for each in onnx.load(artifact.model_path).graph.node]


def constants_of(artifact):
    graph = onnx.load(artifact.model_path).graph
    return {each.name: numpy_helper.to_array(each) for each in graph.initializer}


STAGES = ["quantize_dynamic", "quantize_static"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("layout", ["flat", "user_once"])
def test_scores_stay_close_for_one_and_for_several_requests(stage, layout, request, tmp_path):
    artifact = request.getfixturevalue(layout)
    # In the form of the CPU that multiplies: sums in another's would overflow.
    made = quantize(stage, artifact, tmp_path / "made")
    assert made.manifest.layout == layout
    assert made.manifest.precision == "int8"
    difference = np.abs(scores(made) - scores(artifact)).max()
    assert 0 < difference < (0.04 if form_here().seven_bits else 0.02)


@pytest.mark.usefixtures("cpu")
class TestBoth:
    @pytest.mark.parametrize("stage", STAGES)
    def test_dense_layers_become_int8_and_tables_the_last_and_attention_stay(
        self, stage, flat, tmp_path
    ):
        constants = constants_of(quantize(stage, flat, tmp_path / "made"))
        matrices = [x for x in constants.values() if x.dtype == np.int8 and x.ndim == 2]
        assert sorted(sorted(each.shape) for each in matrices) == [[32, 64], [48, 64]]
        floats = {name for name, x in constants.items() if x.dtype == np.float32 and x.ndim == 2}
        assert {"items", "w3"} <= floats
        assert not {"w1", "w2"} & floats

    @pytest.mark.parametrize("stage", STAGES)
    def test_each_output_channel_has_a_scale_of_its_own(self, stage, flat, tmp_path):
        constants = constants_of(quantize(stage, flat, tmp_path / "made"))
        scales = [x.shape for name, x in constants.items() if "scale" in name and x.ndim == 1]
        assert {(64,), (48,)} <= set(scales)

    @pytest.mark.parametrize("stage", STAGES)
    def test_excluded_layers_stay_as_they_were(self, stage, flat, tmp_path):
        made = quantize(stage, flat, tmp_path / "made", exclude="w2,third", keep_last=False)
        matrices = [x for x in constants_of(made).values() if x.dtype == np.int8 and x.ndim == 2]
        assert [sorted(each.shape) for each in matrices] == [[32, 64]]
        assert "second excluded; third excluded" in made.manifest.notes[-1]

    @pytest.mark.parametrize("stage", STAGES)
    def test_a_graph_without_such_layers_is_kept_and_that_is_said(self, stage, flat, tmp_path):
        made = quantize(stage, flat, tmp_path / "made", exclude="*")
        assert made.manifest.precision == "fp32"
        assert made.manifest.notes[-1].startswith(f"{stage}: nothing quantized: 0 of 3")
        np.testing.assert_array_equal(scores(made), scores(flat))


class TestCpu:
    @pytest.mark.parametrize("stage", STAGES)
    def test_another_cpu_refuses_what_was_made_for_vnni(self, stage, flat, tmp_path, cpu):
        made = quantize(stage, flat, tmp_path / "made")
        assert made.manifest.requires["isa"] == "avx512_vnni"
        checks = {name: passed for name, passed, _ in check_artifact(made)}
        assert checks["instruction sets"]
        cpu("avx2", "avx512f")
        checks = {name: found for name, passed, found in check_artifact(made) if not passed}
        assert checks["instruction sets"] == "this CPU lacks avx512_vnni"

    @pytest.mark.parametrize("stage", STAGES)
    def test_without_vnni_weights_take_7_bits_and_any_cpu_may_run_it(
        self, stage, flat, tmp_path, cpu
    ):
        largest = {}
        for isa in ("avx512_vnni", "avx2"):
            cpu(isa)
            made = quantize(stage, flat, tmp_path / isa)
            matrices = [x for x in constants_of(made).values() if x.dtype == np.int8]
            largest[isa] = max(np.abs(x.astype(int)).max() for x in matrices)
        assert "isa" not in made.manifest.requires
        assert largest["avx512_vnni"] == 127
        assert largest["avx2"] <= 64

    def test_a_result_made_for_one_cpu_is_not_taken_for_another(self, flat, tmp_path, cpu):
        made = run_stage("quantize_dynamic", {}, flat, tmp_path / "store")
        cpu("avx2")
        assert run_stage("quantize_dynamic", {}, flat, tmp_path / "store").folder != made.folder


@pytest.mark.usefixtures("cpu")
class TestStatic:
    @pytest.mark.parametrize("ranges", ["minmax", "mse", "percentile", "entropy"])
    def test_every_way_of_taking_ranges_takes_requests_of_any_sizes(
        self, ranges, user_once, tmp_path
    ):
        made = quantize("quantize_static", user_once, tmp_path / "made", ranges=ranges)
        assert f"; {ranges} ranges from 4 requests" in made.manifest.notes[-1]
        assert np.abs(scores(made) - scores(user_once)).max() < 0.05

    def test_openvino_takes_the_pairs_and_multiplies_in_int8_too(self, flat, tmp_path):
        int8 = quantize("quantize_static", flat, tmp_path / "made")
        made = run_stage("export_openvino", {}, int8, tmp_path / "store")
        assert made.manifest.precision == "int8"
        # One for each layer's input; weights are held as int8.
        assert made.model_path.read_text().count('type="FakeQuantize"') == 2
        fp32 = run_stage("export_openvino", {}, flat, tmp_path / "store")
        weights, before = ((x.folder / "model.bin").stat().st_size for x in (made, fp32))
        assert weights < 0.5 * before
        # Each rounds inputs, biases and sums a little otherwise.
        assert np.abs(scores(made) - scores(int8)).max() < 0.01
        assert np.abs(scores(made) - scores(flat)).max() > 1e-4

    def test_only_inputs_of_layers_are_quantized(self, flat, tmp_path):
        kinds = kinds_of(quantize("quantize_static", flat, tmp_path / "made"))
        assert kinds.count("QuantizeLinear") == 2
        assert kinds.count("Gather") == 1
        assert kinds.count("MatMul") == 3

    @pytest.mark.parametrize(("activations", "kind"), [("uint8", np.uint8), ("int8", np.int8)])
    def test_signed_activations_are_symmetric_as_tensorrt_needs_them(
        self, activations, kind, flat, tmp_path
    ):
        made = quantize("quantize_static", flat, tmp_path / "made", activations=activations)
        points = {
            name: x
            for name, x in constants_of(made).items()
            if name.endswith("zero_point") and x.ndim == 0
        }
        assert {x.dtype for x in points.values()} == {np.dtype(kind)}
        assert all(x == 0 for x in points.values()) == (activations == "int8")

    def test_ranges_are_learnt_from_the_calibration_requests(self, flat, tmp_path):
        def first_scale(name, price):
            batch = replace(CALIBRATION, items=CALIBRATION.items | {"price": price})
            (tmp_path / name).mkdir()
            manifest = make_stage("quantize_static", {}).run(flat, tmp_path / name, batch)
            return float(constants_of(seal(tmp_path / name, manifest))["x_scale"])

        price = CALIBRATION.items["price"]
        usual, wide = first_scale("usual", price), first_scale("wide", 100 * price)
        assert wide > 20 * usual

    def test_an_outlying_channel_costs_less_where_inputs_are_balanced(self, tmp_path):
        artifact = dense_ranker.make_artifact(tmp_path / "artifact")
        items = {name: x.copy() for name, x in CALIBRATION.items.items()}
        items["price"][:, 0] *= 300
        batch = replace(CALIBRATION, items=items)
        columns = artifact.manifest.columns_of(batch)
        exact = open_predictor(artifact, threads=1)(columns)
        errors = {}
        for smooth in (0.0, 0.5):
            folder = tmp_path / f"{smooth}"
            folder.mkdir()
            stage = make_stage("quantize_static", {"smooth": smooth, "keep_last": False})
            made = seal(folder, stage.run(artifact, folder, batch))
            errors[smooth] = np.abs(open_predictor(made, threads=1)(columns) - exact).mean()
        assert errors[0.5] < 0.5 * errors[0.0]
        assert "inputs balanced" in made.manifest.notes[-1]

    @pytest.mark.parametrize("options", [{"percentile": 101.0}, {"requests": 0}, {"smooth": 1.5}])
    def test_options_that_cannot_be_are_refused(self, options):
        with pytest.raises(UserError, match=rf"{next(iter(options))} is"):
            make_stage("quantize_static", options)


def test_calibration_shows_every_request_with_as_many_candidates(flat, user_once):
    for artifact, users in ((flat, 13), (user_once, 1)):
        inputs = calibration_inputs(
            artifact.manifest, CALIBRATION, inputs=("context", "price"), limit=100
        )
        assert {x["price"].shape for x in inputs} == {(13, 8)}
        assert {x["context"].shape for x in inputs} == {(users, 16)}
        assert len(inputs) == 4
