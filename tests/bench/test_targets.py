"""Opening targets, and that they score."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from bench.measure import Load, measure
from bench.targets import (
    CallableTarget,
    open_artifact_target,
    open_target,
    ranker_target,
)
from rankers.errors import UserError
from rankers.ranker import load_ranker


def expected(request):
    price = request.items["price"]
    return request.user["age"][0] + price[:, 0] - price[:, 1]


class TestArtifact:
    def test_scores_as_its_ranker(self, artifact, log):
        target = open_target(str(artifact.folder), threads=1)
        for request in log:
            got = target(target.prepare(request))
            np.testing.assert_allclose(got, expected(request), rtol=1e-5)

    def test_says_what_it_is(self, artifact):
        described = open_target(str(artifact.folder), threads=1).describe()
        assert described["name"] == "sum onnx fp32"
        assert described["threads"] == 1
        assert described["bytes"] == (artifact.folder / "model.onnx").stat().st_size
        assert str(artifact.folder) not in str(described)

    def test_that_a_run_chose_opens_by_the_runs_folder(self, artifact):
        run = artifact.folder.parent
        (run / "run.json").write_text(json.dumps({"chosen": artifact.folder.name}))
        assert open_target(str(run), threads=1).name == "sum onnx fp32"

    def test_that_was_changed_is_refused(self, artifact):
        with (artifact.folder / "model.onnx").open("ab") as file:
            file.write(b"x")
        with pytest.raises(UserError, match="SHA-256"):
            open_artifact_target(artifact.folder)


class TestRanker:
    def test_scores_as_trained_and_brings_its_requests(self, ranker_file):
        target = open_target(f"{ranker_file}:ranker", threads=1)
        for request in target.evaluation:
            got = target(target.prepare(request))
            np.testing.assert_allclose(got, expected(request), rtol=1e-6)
        assert target.name == "sum torch eager"

    def test_leaves_the_module_as_it_was(self, ranker_file):
        ranker = load_ranker(f"{ranker_file}:ranker")
        ranker.module.train()
        target = ranker_target(ranker, threads=1)
        target(target.prepare(ranker.evaluation[0]))
        assert ranker.module.training

    def test_on_a_gpu_that_is_not_there_is_refused(self, ranker_file):
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(UserError, match="sees no GPU"):
            open_target(f"{ranker_file}:ranker", device="cuda")

    def test_on_a_gpu_scores_the_same(self, ranker_file):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no GPU")
        target = open_target(f"{ranker_file}:ranker", device="cuda")
        request = target.evaluation[0]
        np.testing.assert_allclose(target(target.prepare(request)), expected(request), rtol=1e-5)


class TestCallable:
    def test_is_prepared_before_the_clock_starts(self, workload):
        prepared = []

        def prepare(request):
            prepared.append(request)
            return len(prepared), request.candidates

        target = CallableTarget("mine", lambda pair: np.zeros(pair[1]), preparation=prepare)
        found = measure(target, workload, Load(count=50, warmup=5))
        assert len(prepared) == len(workload.requests)
        assert found.counts.ok == 50

    @pytest.fixture
    def own_stack(self, tmp_path):
        path = tmp_path / "own_stack.py"
        path.write_text(
            "from bench.targets import CallableTarget\n"
            "def score(request):\n    return request.items['price'][:, 0]\n"
            "def make():\n    return CallableTarget('made', lambda p: p * 2, lambda r: "
            "r.items['price'][:, 0], instances=3)\n"
            "def wrong():\n    return 5\n"
            "def broken():\n    raise OSError('no key')\n"
        )
        return path

    def test_function_of_a_file_scores_requests(self, own_stack, log):
        target = open_target(f"callable:{own_stack}:score")
        np.testing.assert_array_equal(target(target.prepare(log[0])), log[0].items["price"][:, 0])
        assert target.describe()["kind"] == "callable"
        assert target.name == "score"

    def test_function_without_parameters_makes_the_target(self, own_stack, log):
        target = open_target(f"callable:{own_stack}:make")
        assert target.instances == 3
        np.testing.assert_array_equal(
            target(target.prepare(log[0])), log[0].items["price"][:, 0] * 2
        )

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("scor", "did you mean 'score'"),
            ("wrong", "returned int; a function without parameters returns"),
            ("broken", "OSError: no key"),
        ],
    )
    def test_that_cannot_be_is_one_line(self, own_stack, name, said):
        with pytest.raises(UserError, match=said):
            open_target(f"callable:{own_stack}:{name}")


class TestServed:
    @pytest.mark.parametrize(
        "spec", ["grpc://localhost:8001", "https://h:1/m", "grpc:///m", "grpc://h:1/a/b"]
    )
    def test_an_address_of_another_form_is_refused(self, spec):
        with pytest.raises(UserError, match="grpc://host:port/model"):
            open_target(spec)


def test_the_core_imports_neither_what_it_measures_nor_torch():
    code = (
        "import sys, bench.cli, bench.load, bench.arrivals, bench.latencies, bench.measurement, "
        "bench.measure, bench.targets, bench.workload, bench.report, bench.html_report, "
        "bench.load_options, bench.synthesis, bench.processes, bench.served, bench.attribution, "
        "bench.limits; "
        "print([m for m in ('torch', 'optimize', 'client', 'matplotlib', 'scipy') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
