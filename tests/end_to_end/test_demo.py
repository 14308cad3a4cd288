"""The main job, whole: from rows to scores over gRPC, on drawn rows and on real ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.results_file import load_results

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]
SAMPLE = Path(os.environ.get("RANKSERVE_SAMPLE_DATA", ROOT.parent / "shared" / "data"))


def command(build, *more):
    return [
        *("demo", "--requests", "40", "--measured", "100", "--build", str(build / "demo")),
        *("--repository", str(build / "models"), "--json", "--rivals", "", *more),
    ]


def demo(build, *more):
    """Run it as a person does."""
    given = [sys.executable, "-m", "bench", *command(build, *more)]
    return subprocess.run(given, capture_output=True, text=True, check=False, cwd=ROOT)


def demo_here(build, *more):
    """Run its command in this process; the server is one of its own all the same."""
    return CliRunner().invoke(main, command(build, *more))


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def summary(build):
    done = demo(build, "--rows", "20000", "--rivals", "openvino")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestOnDrawnRows:
    def test_served_scores_are_those_in_process_and_rank_as_the_original(self, summary):
        assert summary["served"]["different_scores"] == 0
        assert summary["served"]["sent"] >= 40
        original, *others = summary["variants"]
        for each in others:
            assert abs(each["auc"] - original["auc"]) <= 1e-6

    def test_another_runtime_is_gated_and_measured_beside(self, summary):
        assert [each["name"] for each in summary["variants"]][:4] == [
            *("torch eager", "ONNX Runtime", "OpenVINO", "Triton, gRPC"),
        ]
        assert not summary["not_measured"]

    def test_every_gate_passed_within_the_promised_limits(self, summary):
        for stage in summary["run"]["stages"]:
            numbers = {each["gate"]: each["numbers"] for each in stage["verdicts"]}
            assert numbers["parity"]["max_abs"] <= 1e-5
            assert abs(numbers["quality"]["auc"]["delta"]) <= 1e-6

    def test_the_files_hold_what_was_printed(self, summary, build):
        written = json.loads((build / "demo" / "summary.json").read_text())
        assert written == summary
        kept = load_results(build / "demo" / "results.json").found
        assert json.loads(json.dumps(kept.summary())) == summary
        assert [each.response.count for each in kept.measurements] == [100, 100, 100, 100, 100]
        page = (build / "demo" / "report.html").read_text()
        assert "<svg" in page
        assert "http://" not in page.replace("http://www.w3.org", "")

    def test_a_second_demo_trains_and_converts_nothing(self, summary, build):
        done = demo_here(build, "--rows", "20000")
        assert done.exit_code == 0, done.stderr
        assert "from the cache" in done.stderr
        again = json.loads(done.stdout)
        assert all(stage["cached"] for stage in again["run"]["stages"])
        assert len(list((build / "models" / "dlrm").glob("[0-9]*"))) == 1


def test_real_rows_go_the_whole_way(build):
    sample = SAMPLE / "criteo_sample.csv"
    if not sample.is_file():
        pytest.skip(f"{sample} is not here")
    done = demo(
        build, "--data", str(sample), "--build", str(build / "real"), "--repository",
        str(build / "real_models"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["data"] == "criteo_sample.csv"
    assert summary["served"]["different_scores"] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no data file"), ("1,2,3\n", "line 1: 3 column(s); expected 40")],
)
def test_bad_data_is_one_line_and_exit_code_2(tmp_path, content, said):
    path = tmp_path / "rows.csv"
    if content:
        path.write_text(content)
    done = demo_here(tmp_path, "--data", str(path))
    assert done.exit_code == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
