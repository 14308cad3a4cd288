"""``python -m bench``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.measurement import load_measurements, save_measurements
from rankers.requests import save_requests


@pytest.fixture
def bench():
    """Run the command line in this process."""
    return lambda *arguments: CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def requests_file(log, tmp_path):
    path = tmp_path / "requests.safetensors"
    save_requests(log, path)
    return path


class TestRun:
    def test_measures_an_artifact_with_requests_from_a_file(
        self, bench, artifact, requests_file, tmp_path
    ):
        out = tmp_path / "out.json"
        done = bench(
            "run", artifact.folder, "--requests", requests_file, "--count", 400, "--threads", 1,
            "--candidates", 8, "--out", out,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        (found,) = load_measurements(out)
        assert found.counts.ok == 400
        assert found.counts.candidates == 3200
        assert "p99" in done.stdout

    def test_measures_a_ranker_at_a_rate_with_its_own_requests(self, bench, ranker_file):
        done = bench("run", f"{ranker_file}:ranker", "--rate", 2000, "--count", 50, "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert found["load"]["mode"] == "open"
        assert found["counts"]["sent"] == 50
        assert found["void"]

    def test_an_artifact_needs_requests(self, bench, artifact):
        done = bench("run", artifact.folder)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: no target brings requests of its own")

    @pytest.mark.parametrize(
        "wrong",
        [
            ("--count", 0),
            ("--rate", -1),
            ("--count", 5, "--duration", 1),
            ("--candidates", 0),
            ("--requests", "nowhere.safetensors"),
        ],
    )
    def test_wrong_use_is_one_line_and_exit_2(self, bench, ranker_file, wrong):
        done = bench("run", f"{ranker_file}:ranker", *wrong)
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1

    def test_a_feature_the_target_does_not_know_fails_before_anything_is_timed(
        self, bench, artifact, log, tmp_path
    ):
        log.items["colour"] = log.items.pop("price")
        save_requests(log, tmp_path / "other.safetensors")
        done = bench("run", artifact.folder, "--requests", tmp_path / "other.safetensors")
        assert done.exit_code == 2
        assert "price" in done.stderr


def test_compare_measures_in_turn_and_gives_ratios(bench, artifact, ranker_file, tmp_path):
    out = tmp_path / "out.json"
    done = bench(
        "compare", f"{ranker_file}:ranker", artifact.folder, "--count", 100, "--rounds", 2,
        "--threads", 1, "--out", out, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert [each.name for each in load_measurements(out)] == ["sum torch eager", "sum onnx fp32"]
    assert json.loads(done.stdout)["ratios"][0]["target"] == "sum onnx fp32"
    assert "round 2 of 2" in done.stderr


class TestCompare:
    def test_exits_1_only_when_asked_to_and_a_target_is_slower(self, bench, ranker_file, tmp_path):
        slow = tmp_path / "slow_ranker.py"
        slow.write_text(
            ranker_file.read_text()
            .replace("def forward", "def forward_fast")
            .replace(
                "def ranker",
                "def slowly(self, age, price):\n"
                "    import time\n"
                "    time.sleep(0.01)\n"
                "    return self.forward_fast(age, price)\n\n"
                "Sum.forward = slowly\n\n"
                "def ranker",
            )
            .replace('"sum"', '"sloth"')
        )
        targets = (f"{ranker_file}:ranker", f"{slow}:ranker")
        load = ("--count", 60, "--rounds", 12, "--warmup", 0, "--threads", 1)
        assert bench("compare", *targets, *load).exit_code == 0
        done = bench("compare", *targets, *load, "--fail-if-slower", "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["verdicts"] == {"sloth torch eager": "slower"}
        turned = bench(
            "compare", *targets, *load, "--fail-if-slower", "--baseline", "sloth torch eager"
        )
        assert turned.exit_code == 0

    def test_an_unknown_baseline_is_exit_2(self, bench, ranker_file):
        done = bench("compare", f"{ranker_file}:ranker", "--baseline", "nobody")
        assert done.exit_code == 2
        assert "none of the targets" in done.stderr


class TestCapacity:
    def test_gives_one_object_with_the_curve(self, bench, ranker_file, tmp_path):
        out = tmp_path / "out.json"
        done = bench(
            "capacity", f"{ranker_file}:ranker", "--slo", "p99=50ms", "--budget", 10,
            "--threads", 1, "--out", out, "--json",
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert found["kind"] == "rankserve-capacity"
        assert found["points"]
        assert len(load_measurements(out)) == len(found["points"])
        assert done.exit_code == (1 if found["rate_per_s"] is None else 0)

    def test_prints_the_curve(self, bench, ranker_file):
        done = bench("capacity", f"{ranker_file}:ranker", "--slo", "p99=1us", "--budget", 3)
        assert done.exit_code == 1
        assert "was not shown to hold at any rate" in " ".join(done.stdout.split())

    def test_a_wrong_objective_is_exit_2(self, bench, ranker_file):
        done = bench("capacity", f"{ranker_file}:ranker", "--slo", "fast")
        assert done.exit_code == 2
        assert "such as p99=10ms" in done.stderr


class TestReport:
    def test_writes_the_page_and_then_finds_it_current(self, bench, make_measurement, tmp_path):
        save_measurements([make_measurement()], tmp_path / "results" / "a.json")
        page = tmp_path / "page.md"
        options = ("report", "--results", tmp_path / "results", "--out", page)
        assert bench(*options, "--check").exit_code == 1
        assert not page.exists()
        assert bench(*options).exit_code == 0
        assert bench(*options, "--check").exit_code == 0
        page.write_text(page.read_text().replace("250", "251"))
        assert bench(*options, "--check").exit_code == 1

    def test_a_missing_folder_is_exit_2(self, bench, tmp_path):
        assert bench("report", "--results", tmp_path / "nowhere").exit_code == 2


def test_an_unknown_command_names_the_nearest(bench):
    done = bench("repord")
    assert done.exit_code == 2
    assert "did you mean 'report'" in done.stderr


class TestLoads:
    def test_requests_are_made_up_for_what_has_none(self, bench, artifact):
        done = bench(
            "run", artifact.folder, "--workload", "interactive", "--count", 20, "--threads", 1,
            "--json",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        workload = json.loads(done.stdout)["workload"]
        assert workload["name"] == "interactive"
        assert 20 <= workload["candidates_min"] <= workload["candidates_max"] <= 50

    def test_a_trace_is_replayed_in_full_at_a_speed(self, bench, ranker_file, tmp_path):
        trace = tmp_path / "trace.jsonl"
        trace.write_text("\n".join(str(number) for number in range(21)))
        done = bench(
            "run", f"{ranker_file}:ranker", "--arrivals", f"replay:{trace}", "--speed", 100,
            "--json",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert found["counts"]["sent"] == 21
        assert found["load"]["rate_per_s"] == 100

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (("--workload", "interactiv"), "did you mean 'interactive'"),
            (("--workload", "feed", "--candidates", 5), "leave out --requests and --candidates"),
            (("--arrivals", "constant"), "needs a --rate"),
            (("--arrivals", "burst", "--rate", 5), "did you mean 'bursts'"),
            (("--speed", 2), "--speed is of --arrivals replay:FILE"),
        ],
    )
    def test_a_mistake_is_one_line_and_exit_2(self, bench, ranker_file, wrong, said):
        done = bench("run", f"{ranker_file}:ranker", *wrong)
        assert done.exit_code == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1

    def test_workloads_are_listed(self, bench):
        assert "mlperf-like" in bench("workloads").stdout
        assert set(json.loads(bench("workloads", "--json").stdout)) >= {"feed", "interactive"}


def test_every_command_that_the_makefile_calls_is_there():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    called = set(re.findall(r"-m bench ([a-z-]+)", makefile))
    assert "demo" in called
    assert called <= set(main.commands)
