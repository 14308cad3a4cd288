"""``python -m bench``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.results_file import (
    load_measurements,
    load_results,
    results_json,
    save_measurements,
    save_results,
)
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

    @pytest.mark.parametrize(
        ("slo", "never", "misses"),
        [("p50=60s", "does not hold", 0), ("p50=1us", "holds", 300)],
    )
    def test_says_whether_an_objective_holds(self, bench, ranker_file, slo, never, misses):
        load = ("--slo", slo, "--count", 300)
        done = bench("run", f"{ranker_file}:ranker", *load, "--json")
        found = json.loads(done.stdout)
        verdict = found["verdict"]
        # On a busy machine so few requests may be worth too few to tell.
        assert verdict["answer"] != never
        assert (verdict["requests"], verdict["misses"]) == (300, misses)
        assert done.exit_code == (0 if verdict["answer"] == "holds" else 1)
        assert found["load"]["slo"]["quantile"] == 0.5

    def test_prints_what_an_objective_lacks(self, bench, ranker_file):
        done = bench("run", f"{ranker_file}:ranker", "--slo", "p99=60s", "--count", 50)
        assert "p99 ≤ 60000 ms is undecided: it needs about" in done.stdout
        assert done.exit_code == 1

    def test_several_runs_are_one_measurement_with_their_spread(self, bench, ranker_file):
        done = bench("run", f"{ranker_file}:ranker", "--runs", 3, "--count", 60, "--json")
        found = json.loads(done.stdout)
        assert found["rounds"] == [60, 60, 60]
        assert [each["quantile"] for each in found["spreads"]] == [0.5, 0.9]
        assert all(len(each["runs_us"]) == 3 for each in found["spreads"])
        assert "run 3 of 3" in done.stderr
        text = bench("run", f"{ranker_file}:ranker", "--runs", 2, "--count", 20).stdout
        assert "p50 in 2 runs: " in text

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
    assert json.loads(done.stdout) == results_json(load_results(out).found)
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
                "    time.sleep(0.004)\n"
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


@pytest.fixture
def quick(tmp_path, requests_file):
    """A function that takes next to no time, on a busy machine too, and requests for it."""
    stack = tmp_path / "quick_stack.py"
    stack.write_text(
        "import numpy as np\n\n\ndef score(request):\n    return np.zeros(request.candidates)\n"
    )
    return f"callable:{stack}:score", "--requests", requests_file


class TestCapacity:
    def test_gives_one_object_with_the_curve(self, bench, quick, tmp_path):
        out = tmp_path / "out.json"
        done = bench("capacity", *quick, "--slo", "p99=20ms", "--budget", 2, "--out", out, "--json")
        found = json.loads(done.stdout)
        assert found["kind"] == "rankserve-capacity"
        assert found["points"]
        assert len(load_measurements(out)) == len(found["points"])
        kept = load_results(out).found
        assert (kept.rate_per_s, kept.text) == (found["rate_per_s"], found["text"])
        assert [each.verdict.to_json() for each in kept.points] == [
            each["verdict"] for each in found["points"]
        ]
        assert done.exit_code == (1 if found["rate_per_s"] is None else 0)

    def test_prints_the_curve(self, bench, quick):
        done = bench("capacity", *quick, "--slo", "p99=1us", "--budget", 3)
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

    def test_a_page_of_html_is_made_from_files_alone(self, bench, found_of, tmp_path):
        for name in ("capacity", "sweep"):
            save_results(found_of[name], tmp_path / f"{name}.json")
        page = tmp_path / "page.html"
        done = bench(
            "report", "--html", page, tmp_path / "capacity.json", tmp_path / "sweep.json", "--json"
        )
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["page"] == str(page)
        assert "<title>rankserve: capacity, sweep</title>" in page.read_text()
        assert not (tmp_path / "benchmarks.md").exists()

    def test_pictures_are_drawn_and_kept_current(self, bench, found_of, tmp_path):
        results, pictures = tmp_path / "results", tmp_path / "pictures"
        save_results(found_of["compare"], results / "a.json")
        options = (
            "report", "--results", results, "--out", tmp_path / "page.md", "--pictures", pictures,
        )  # fmt: skip
        assert bench(*options).exit_code == 0
        assert {each.name for each in pictures.iterdir()} == {"a-light.png", "a-dark.png"}
        assert bench(*options, "--check").exit_code == 0
        (pictures / "a-dark.png").unlink()
        done = bench(*options, "--check", "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["pictures_behind"] == [str(pictures / "a-dark.png")]
        assert not (pictures / "a-dark.png").exists()

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (("some.json",), "--html"),
            (("--html", "p.html", "--check"), "leave out --check"),
            (("--html", "p.html", "nowhere.json"), "nowhere.json"),
        ],
    )
    def test_wrong_use_is_one_line_and_exit_2(self, bench, wrong, said):
        done = bench("report", *wrong)
        assert done.exit_code == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


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


class TestDiff:
    @pytest.fixture
    def file(self, make_measurement, tmp_path):
        def save(name, *measurements):
            save_measurements(measurements, tmp_path / name)
            return tmp_path / name

        return save

    def test_tells_what_became_slower_and_exits_1_only_when_asked_to(
        self, bench, file, make_measurement
    ):
        times = np.random.default_rng(1).exponential(0.002, 3000)
        old, new = file("old", make_measurement(times)), file("new", make_measurement(2 * times))
        done = bench("diff", old, new, "--json")
        assert done.exit_code == 0
        found = json.loads(done.stdout)["changes"]
        assert [(each["old"]["quantile"], each["verdict"]) for each in found] == [
            (0.5, "slower"),
            (0.99, "slower"),
        ]
        assert found[0]["ratio"] == pytest.approx(2.0)
        assert found[0]["low"] > 1.5
        assert bench("diff", old, new, "--fail-if-slower").exit_code == 1
        assert "faster" in bench("diff", new, old, "--fail-if-slower").stdout
        assert "cannot tell" in bench("diff", new, new).stdout

    def test_of_different_machines_is_refused_unless_asked_for(
        self, bench, file, make_measurement, machine
    ):
        other = replace(machine, machine="ba9876543210", cpu="Abacus")
        old = file("old", make_measurement())
        new = file("new", make_measurement(environment=other))
        done = bench("diff", old, new)
        assert done.exit_code == 2
        assert "Slide Rule" in done.stderr
        assert "--any-machine" in done.stderr
        assert bench("diff", old, new, "--any-machine").exit_code == 0

    @pytest.mark.parametrize("field", ["workload", "load"])
    def test_of_different_loads_is_refused(self, bench, file, make_measurement, field):
        other = make_measurement(**{field: {"name": "other", "mode": "closed", "concurrency": 9}})
        done = bench("diff", file("old", make_measurement()), file("new", other))
        assert done.exit_code == 2
        assert f"another {field}" in done.stderr

    def test_goes_by_name_where_there_are_several(self, bench, file, make_measurement):
        b = make_measurement(target={"name": "b", "kind": "callable", "device": "cpu"})
        old = file("old", make_measurement(), b)
        done = bench("diff", old, file("new", b, b), "--json")
        assert {each["target"] for each in json.loads(done.stdout)["changes"]} == {"b"}
        done = bench("diff", file("a", make_measurement()), file("new", b, b))
        assert done.exit_code == 2
        assert "no target under the same load" in done.stderr
