"""The suite runs on a bare machine, writes as it goes, and its report is made from its file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu.report import gpu_section
from bench.gpu_suite import main
from rankers.errors import UserError

# Distributions of this project that a bare machine with a GPU has not.
MISSING = (
    "click", "hdrh", "grpc", "tritonclient", "locust", "platformdirs", "rich", "pyarrow", "jinja2",
    "matplotlib", "sklearn", "openvino",
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Run the whole suite, parent and child, where those are missing."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({MISSING!r}))\n"
    )
    out = folder / "out.json"
    given = ["--device", "cpu", "--quick", "--only", "ceilings,graphs", "--rankers", "two_tower"]
    done = subprocess.run(
        [*(sys.executable, "-m", "bench.gpu_suite", "--out", str(out), *given),
         *("--precisions", "fp32", "--cell-seconds", "250", "--minutes", "4")],
        env=os.environ | {"PYTHONPATH": f"{folder}:{Path(__file__).parents[3]}"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + out.with_suffix(".log").read_text()
    return json.loads(out.read_text())


def test_it_needs_nothing_that_a_bare_machine_has_not(found):
    assert found["complete"]
    assert [each["status"] for each in found["cells"]] == ["ok", "ok"]
    assert all(len(each["rows"]) == 2 for each in found["cells"])


def test_it_says_when_where_and_by_which_command(found):
    assert found["command"].startswith("python -m bench.gpu_suite --device cpu --quick ")
    assert found["environment"]["versions"]["torch"]
    assert found["ceilings"]["copy_bytes_per_s"] > 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "graph"], "--only names 'graph'; did you mean 'graphs'"),
        (["--rankers", "dlmr"], "did you mean 'dlrm'"),
        (["--rows", "0"], "--rows is '0'"),
    ],
)
def test_a_wrong_option_is_one_line(given, said, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main(["--device", "cpu", "--out", str(out), *given]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


class TestReport:
    @pytest.fixture
    def results(self, found, tmp_path):
        """What a GPU would have given, of the form that the suite wrote."""
        (tmp_path / "gpu").mkdir()
        here = found["environment"] | {"gpu": [{"name": "a GPU", "driver_version": "580.1"}]}
        data = found | {"quick": False, "device": "a GPU", "environment": here}

        def write(**changes):
            (tmp_path / "gpu" / "one.json").write_text(json.dumps(data | changes))
            return tmp_path

        return write

    def test_without_a_file_it_says_not_run_and_by_which_rule_it_would_count(self, tmp_path):
        section = gpu_section(tmp_path)
        assert "Not run" in section
        assert "counts only with the date" in section

    def test_a_file_gives_a_row_for_each_cell_with_its_date_and_command(self, results, found):
        section = gpu_section(results())
        assert f"#### a GPU, {found['date']} (gpu/one.json)" in section
        assert "driver 580.1" in section
        assert section.count("\n| two_tower flat, cuda graphs |") == 2
        assert found["command"] in section
        assert "Not run" not in section

    def test_what_was_not_measured_is_named_with_why(self, results, found):
        cells = [found["cells"][0], found["cells"][1] | {"status": "crashed", "why": "SIGSEGV"}]
        section = gpu_section(results(cells=cells, complete=False))
        assert "cuda graphs, copies inside fp32: crashed: SIGSEGV." in section
        assert "It was cut before its end." in section

    def test_what_a_gather_reaches_of_the_copy_bandwidth_is_said_at_its_most_rows(
        self, results, found
    ):
        times = found["cells"][0]["rows"][0]
        rows = [
            times | {"rows": n, "floor": {"of_copy_bandwidth": share, "times_floor": 1 / share}}
            for n, share in ((4096, 0.5), (65_536, 0.71))
        ]
        gather = found["cells"][0] | {"ranker": "lookup_vectors", "runtime": "fused kernel"}
        section = gpu_section(results(cells=[gather | {"precision": "int8", "rows": rows}]))
        assert "- lookup_vectors, fused kernel, rows of int8: 71% at 65,536 rows" in section

    def test_a_smoke_test_is_not_taken_for_a_result(self, results):
        with pytest.raises(UserError, match="a smoke test of the suite says nothing of a GPU"):
            gpu_section(results(quick=True))

    def test_another_file_is_refused(self, results):
        with pytest.raises(UserError, match="is not the GPU suite's results"):
            gpu_section(results(kind="rankserve-runs"))
