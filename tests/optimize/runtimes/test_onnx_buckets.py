"""Sessions with bound buffers score as the plain session does, whatever is in their padding."""

import sys
import threading
from dataclasses import replace

import dense_ranker
import numpy as np
import onnx
import onnxruntime
import pytest

from optimize.artifact import Artifact, open_artifact, seal
from optimize.build import run_stage
from optimize.capture import capture
from optimize.devices import runtime_device, unmet_device
from optimize.gates import judge
from optimize.gpu_graphs import ONNX_BUCKETS
from optimize.recipe import ParityLimits, QualityLimits
from optimize.runtimes import open_predictor
from optimize.runtimes.onnx_buckets import OneThread, SessionOptions
from optimize.runtimes.onnx_providers import (
    library_folders,
    missing_provider,
    preload_libraries,
    profile_of,
    provider_options,
    require_started,
)
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.static_inputs import columns_of
from optimize.triton.config import ServingOptions
from optimize.triton.repository import deploy
from rankers.errors import UserError

SIZES = "4,16,64"


@pytest.fixture(scope="module")
def graphs(store):
    import example_rankers

    flat = capture(example_rankers.tiny(), store, candidates=(1, 2, 37, 200))
    once = run_stage("user_once", {"when": "always"}, flat, store)
    return {
        "captured": flat,
        "flat": run_stage("export_onnx", {}, flat, store),
        "user_once": run_stage("export_onnx", {}, once, store),
    }


@pytest.fixture(scope="module", params=["flat", "user_once"])
def both(request, graphs, store):
    """The plain artifact, and the one in buckets."""
    plain = graphs[request.param]
    return plain, run_stage("onnx_gpu_session", {"sizes": SIZES}, plain, store)


def columns(artifact, counts):
    return artifact.manifest.columns_of(sample_requests(artifact.manifest.signature, counts))


@pytest.mark.parametrize("counts", [[1], [4], [5], [16], [64], [65], [200], [3, 1, 30], [1, 130]])
def test_scores_are_those_of_the_plain_session_at_sizes_in_between_and_beyond(counts, both):
    plain, made = both
    given = columns(plain, counts)
    np.testing.assert_allclose(open_predictor(made)(given), open_predictor(plain)(given), atol=1e-6)


def test_every_gate_passes(both, graphs):
    parity, quality = judge(both[1], graphs["captured"], ParityLimits(), QualityLimits())
    assert parity.passed, parity.reason
    assert quality.passed, quality.reason


def test_garbage_in_the_padding_is_computed_and_changes_no_score(both):
    _, made = both
    predict = open_predictor(made)
    given = columns(made, [11])
    expected = predict(given)
    run = predict._runs[16]
    run.inputs.views()["price"][11:] = np.nan
    np.testing.assert_array_equal(predict(given), expected)
    assert np.isnan(run.scores[11:]).all()
    assert np.isfinite(expected).all()


def test_the_session_reads_and_writes_the_buffers_that_were_bound(both):
    predict = open_predictor(both[1])
    run = predict._runs[16]
    addresses = [each.data_ptr() for each in run.inputs.tensors]
    first = predict(columns(both[1], [9]))
    kept = first.copy()
    predict(columns(both[1], [10]))
    assert [each.data_ptr() for each in run.inputs.tensors] == addresses
    assert not np.array_equal(run.scores[:9], kept)  # overwritten by the second request
    np.testing.assert_array_equal(first, kept)


def test_an_id_out_of_range_is_refused_by_name(both):
    predict = open_predictor(both[1])
    given = columns(both[1], [9])
    wrong = given | {"item": given["item"].copy()}
    wrong["item"][3] = 100
    with pytest.raises(UserError, match=r"'item' holds the ID 100; IDs run from 0 to 99"):
        predict(wrong)


def test_a_graph_in_fp16_rounds_in_buckets_as_it_does_without(tmp_path, store):
    artifact = dense_ranker.make_artifact(tmp_path / "fp32")
    half = run_stage("half_precision", {"ranges": "weights"}, artifact, store)
    made = run_stage("onnx_gpu_session", {"sizes": "16,64"}, half, store)
    given = columns(artifact, [50])
    scores = {name: open_predictor(each)(given) for name, each in
              {"fp32": artifact, "half": half, "made": made}.items()}  # fmt: skip
    np.testing.assert_allclose(scores["made"], scores["half"], atol=1e-6)
    assert np.abs(scores["half"] - scores["fp32"]).max() > 1e-5  # rounding can be seen
    assert made.manifest.precision == "fp16"


def test_a_feature_that_the_graph_does_not_read_is_left_out(tmp_path):
    artifact = dense_ranker.make_artifact(tmp_path / "whole")
    model = onnx.load(artifact.model_path)
    (item,) = [each for each in model.graph.input if each.name == "item_id"]
    model.graph.input.remove(item)
    zeros = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "one_id")
    model.graph.initializer.append(zeros)
    gather, concat = model.graph.node[:2]
    gather.input[1] = "one_id"  # [1, 8], spread over the rows of price
    rows = onnx.helper.make_node("Shape", ["price"], ["price_shape"])
    spread = onnx.helper.make_node("Expand", ["item", "price_shape"], ["items_of_rows"])
    concat.input[0] = "items_of_rows"
    for each in (rows, spread):
        model.graph.node.insert(1, each)
    model.graph.node[1].CopyFrom(rows)
    model.graph.node[2].CopyFrom(spread)
    onnx.checker.check_model(model)
    folder = tmp_path / "less"
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    setting = {ONNX_BUCKETS: SessionOptions(sizes=(8, 32), usual=8).to_json()}
    made = seal(folder, replace(artifact.manifest, model="model.onnx"))
    bucketed = Artifact(folder, replace(made.manifest, settings=setting))
    given = columns(artifact, [20])
    np.testing.assert_allclose(
        open_predictor(bucketed)(given), open_predictor(made)(given), atol=1e-6
    )


class TestStage:
    def test_rows_that_depend_on_each_other_are_refused(self, tmp_path, store):
        artifact = dense_ranker.make_artifact(tmp_path / "plain")
        model = onnx.load(artifact.model_path)
        for each in model.graph.node:
            if each.output[0] == "score":
                each.output[0] = "alone"
        mean = onnx.helper.make_node("ReduceMean", ["alone"], ["mean"], keepdims=0)
        model.graph.node.extend([mean, onnx.helper.make_node("Sub", ["alone", "mean"], ["score"])])
        folder = tmp_path / "mixing"
        folder.mkdir()
        onnx.save(model, folder / "model.onnx")
        mixing = seal(folder, replace(artifact.manifest, model="model.onnx", files={}))
        with pytest.raises(UserError, match="this program's scores depend on other rows"):
            run_stage("onnx_gpu_session", {"sizes": "4,16"}, mixing, store)

    def test_a_workload_chooses_the_buckets_and_what_is_tuned_for(self, graphs, store, tmp_path):
        path = tmp_path / "feed.toml"
        path.write_text(
            '[candidates]\nkind = "histogram"\ncounts = [10, 100, 300]\nweights = [5, 3, 2]\n'
        )
        options = {"workload": str(path), "buckets": 3, "greatest": 0, "provider": "tensorrt"}
        made = run_stage("onnx_gpu_session", options, graphs["flat"], store)
        setting = made.manifest.settings[ONNX_BUCKETS]
        assert (setting["sizes"], setting["usual"]) == ([16, 104, 304], 16)
        assert made.manifest.notes[-1].startswith("onnx_gpu_session: tensorrt, buckets 16, 104")

    def test_the_servers_graph_is_proved_without_buckets_and_keeps_the_artifacts_key(
        self, both, tmp_path
    ):
        options = ServingOptions(backend="onnxruntime", accelerator="cuda")
        first, again = (
            deploy(both[1], tmp_path / "models", "tiny", options=options, ungated=True)
            for _ in range(2)
        )
        assert (first.version, again.version) == (1, 1)
        assert ONNX_BUCKETS not in open_artifact(first.folder).manifest.settings

    def test_it_runs_on_the_gpu_of_a_run_and_other_graphs_on_the_cpu(self, both):
        plain, made = both
        assert runtime_device(made.manifest, "cuda") == "cuda"
        assert runtime_device(plain.manifest, "cuda") == "cpu"

    @pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
    def test_a_provider_that_is_not_in_this_build_is_the_reason_to_skip(self, provider):
        stage = make_stage("onnx_gpu_session", {"provider": provider})
        names = onnxruntime.get_available_providers()
        if len(names) > 2:
            pytest.skip("a build for GPUs")
        said = unmet_device([stage], "cuda")
        assert said.startswith(f"onnxruntime {onnxruntime.__version__} has no ")
        assert said.endswith("then pip install onnxruntime-gpu (docs/gpu.md)")

    def test_opened_on_cuda_the_reason_is_one_line(self, both):
        if missing_provider("cuda") is None:
            pytest.skip("a build for GPUs")
        with pytest.raises(UserError, match=r"onnxruntime .* has no CUDAExecutionProvider"):
            open_predictor(both[1], device="cuda")
        with pytest.raises(UserError, match=r"runs on cpu.*the stage onnx_gpu_session"):
            open_predictor(both[0], device="cuda")

    def test_a_session_that_fell_back_to_the_cpu_is_refused(self, both):
        session = onnxruntime.InferenceSession(
            both[0].model_path, providers=["CPUExecutionProvider"]
        )
        with pytest.raises(UserError, match=r"could not start TensorrtExecutionProvider: .*cuDNN"):
            require_started(session, "tensorrt")
        require_started(session, "cpu")


class TestLibraries:
    """Of CUDA and cuDNN, where NVIDIA's wheels put them."""

    @pytest.fixture
    def site(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

        def put(part):
            folder = tmp_path / "nvidia" / part / "lib"
            folder.mkdir(parents=True)
            return folder

        return put

    def test_they_are_found_on_the_path_for_the_cuda_that_is_wanted(self, site):
        assert library_folders("13.0") == {}
        cuda, cudnn = site("cu13"), site("cudnn")
        assert library_folders("13.0") == {"cuda": cuda, "cudnn": cudnn}
        assert library_folders("12.8") == {"cudnn": cudnn}

    def test_of_the_folders_that_are_there_each_is_loaded_once(self, site, monkeypatch, capsys):
        asked = []

        def preload_dlls(**given):
            asked.append(given)
            sys.stdout.write("Failed to load something\n")  # as ONNX Runtime prints

        monkeypatch.setattr(onnxruntime, "preload_dlls", preload_dlls)
        cuda = site("cu13")
        monkeypatch.setattr(onnxruntime, "cuda_version", "")
        preload_libraries()
        assert asked == []  # a build for the CPU
        monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
        preload_libraries()
        assert asked == [{"cuda": True, "cudnn": False, "directory": str(cuda)}]
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "Failed to load something\n")


class TestProviderOptions:
    def options(self, tmp_path, provider="tensorrt", **given):
        profile = {"price": ((1, 8), (64, 8), (512, 8)), "item_id": ((1,), (64,), (512,))}
        chosen = {"gpu": 1, "stream": 77, "cuda_graph": True, "tf32": False} | given
        return provider_options(
            provider, profile=profile, caches=tmp_path / "key", **chosen
        )  # fmt: skip

    def test_cuda_runs_captured_on_the_given_stream_and_in_full_float32(self, tmp_path):
        ((name, options),) = self.options(tmp_path, "cuda")
        assert name == "CUDAExecutionProvider"
        assert (options["device_id"], options["user_compute_stream"]) == ("1", "77")
        assert (options["enable_cuda_graph"], options["use_tf32"]) == ("1", "0")

    def test_tensorrt_comes_first_with_one_explicit_profile_and_both_caches(self, tmp_path):
        (first, trt), (second, cuda) = self.options(tmp_path)
        assert (first, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
        assert trt["trt_profile_min_shapes"] == "price:1x8,item_id:1"
        assert trt["trt_profile_opt_shapes"] == "price:64x8,item_id:64"
        assert trt["trt_profile_max_shapes"] == "price:512x8,item_id:512"
        assert trt["device_id"] == cuda["device_id"] == "1"
        assert trt["trt_engine_cache_path"] == str(tmp_path / "key")
        assert trt["trt_timing_cache_path"] == str(tmp_path)
        assert (trt["trt_cuda_graph_enable"], cuda["enable_cuda_graph"]) == ("1", "0")

    def test_no_type_is_forced_on_a_graph(self, tmp_path):
        (_, trt), _ = self.options(tmp_path)
        assert not {"trt_fp16_enable", "trt_int8_enable", "trt_bf16_enable"} & set(trt)

    def test_a_users_columns_have_one_row_in_every_shape(self, graphs):
        profile = profile_of(columns_of(graphs["user_once"].manifest), 16, 64)
        assert profile["country"] == ((1,), (1,), (1,))
        assert profile["item"] == ((1,), (16,), (64,))
        assert profile["item_to_request"] == ((1,), (16,), (64,))

    def test_what_is_tuned_for_is_one_of_the_buckets(self):
        with pytest.raises(UserError, match=r"usual is 5; it is one of the buckets, \(4, 8\)"):
            SessionOptions(sizes=(4, 8), usual=5)


def test_whoever_calls_the_session_runs_in_one_thread():
    seen = set()

    def opened():
        seen.add(threading.get_ident())
        return lambda inputs: (seen.add(threading.get_ident()), inputs)[1]

    predict = OneThread(opened)
    callers = [threading.Thread(target=predict, args=[{}]) for _ in range(4)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert len(seen) == 1
    assert threading.get_ident() not in seen
