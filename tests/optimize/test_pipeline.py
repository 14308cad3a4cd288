"""Whole runs from the command line: cached, resumable after a kill, one at a time."""

import json
import random
import shutil
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from example_rankers import EXAMPLES
from in_process import children_in_this_process

from optimize.artifact import open_artifact
from optimize.cli import main
from rankers.errors import UserError

pytestmark = pytest.mark.end_to_end

TINY = f"{EXAMPLES}:tiny"

BRANCHES = """
[[branches]]
name = "onnx"
stages = [{ use = "export_onnx" }]
[[branches]]
name = "again"
stages = [{ use = "export_onnx" }]
[[branches]]
name = "no compiler"
stages = [{ use = "compile_inductor" }]
[[branches]]
name = "no compiler, by other limits"
gates = "cpu-fast"
stages = [{ use = "compile_inductor" }]
[[branches]]
name = "bf16"
stages = [{ use = "export_onnx" }, { use = "export_openvino", precision = "bf16" }]
[[branches]]
name = "int8"
stages = [{ use = "quantize_tables", min_rows = 1 }, { use = "export_onnx" }]
[[branches]]
name = "int8, by limits of its own"
stages = [{ use = "quantize_tables", min_rows = 1 }, { use = "export_onnx" }]
[branches.gates]
parity = { max_abs = 0.5, mean_abs = 0.5, candidates = [1, 37] }
quality = { auc = 1, gauc = 1, ndcg_at_10 = 1, logloss = 1, calibration_error = 1 }
[measure]
requests = 400
seconds = 3
rivals = ["int8, by limits of its own"]
"""


def optimize(*arguments):
    return [sys.executable, "-m", "optimize", *map(str, arguments)]


def run_to_end(out, *more, ranker=TINY):
    command = optimize("run", ranker, "--recipe", "cpu-fp32-flat", "--out", out, *more)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = run_to_end(folder)
    assert done.returncode == 0, done.stderr
    return folder


class TestRun:
    def test_every_step_passed_its_gates_and_the_last_was_chosen(self, out):
        run = json.loads((out / "run.json").read_text())
        assert [each["stage"] for each in run["stages"]] == [
            "capture",
            "export_onnx",
            "optimize_onnx",
        ]
        assert all(each["passed"] for each in run["stages"])
        assert run["chosen"] == run["stages"][-1]["artifact"]
        for each in run["stages"]:
            assert open_artifact(out / each["artifact"]).passed

    def test_a_second_run_makes_nothing_again(self, out):
        before = {path: path.stat().st_mtime_ns for path in out.glob("artifacts/*/*")}
        done = run_to_end(out, "--json")
        assert done.returncode == 0
        assert all(each["cached"] for each in json.loads(done.stdout)["stages"])
        after = {path: path.stat().st_mtime_ns for path in out.glob("artifacts/*/*")}
        assert after == before

    def test_the_logs_hold_a_script_for_each_child(self, out):
        scripts = sorted(path.parent.name for path in out.glob("logs/*/reproduce.sh"))
        assert "2-export_onnx" in scripts
        assert "2-export_onnx-gate" in scripts

    def test_two_runs_in_one_folder_are_refused(self, tmp_path):
        first = subprocess.Popen(
            optimize("run", TINY, "--out", tmp_path), stderr=subprocess.DEVNULL
        )
        try:
            while not (tmp_path / ".lock").exists():
                time.sleep(0.05)
            time.sleep(0.2)
            second = run_to_end(tmp_path)
        finally:
            first.kill()
            first.wait()
        assert second.returncode == 2
        assert "another run is working here" in second.stderr

    def test_a_failed_gate_ends_the_run_with_exit_code_1(self, tmp_path, out):
        recipe = tmp_path / "strict.toml"
        recipe.write_text(
            '[[stages]]\nuse = "export_onnx"\n[[stages]]\nuse = "optimize_onnx"\n'
            "[gates.parity]\nmean_abs = 0\nmax_abs = 0\n"
        )
        shutil.copytree(out, tmp_path / "run")
        arguments = ["run", TINY, "--recipe", recipe, "--out", tmp_path / "run", "--json"]
        with children_in_this_process():
            done = CliRunner().invoke(main, [*map(str, arguments)])
        run = json.loads(done.stdout)
        assert done.exit_code == 1
        assert not run["passed"]
        assert not run["stages"][-1]["passed"]
        assert "parity FAILED" in done.stderr


def test_branches_end_alone_and_the_best_of_those_that_passed_is_kept(tmp_path, out, monkeypatch):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(BRANCHES)
    shutil.copytree(out, tmp_path / "run")
    monkeypatch.setenv("CXX", "/nowhere/g++")
    done = run_to_end(tmp_path / "run", "--recipe", recipe, "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    ends = {each["name"]: (each["end"], each["reason"]) for each in run["branches"]}
    # The same artifact twice, so that nothing is said here of which is faster.
    assert {ends["onnx"][0], ends["again"][0]} == {"kept", "lost"}
    assert "p50" in ends["onnx"][1]
    assert "p50" in ends["again"][1]
    assert ends["no compiler"][0] == "failed"
    assert "needs a C++ compiler" in ends["no compiler"][1]
    assert ends["no compiler, by other limits"] == ends["no compiler"]
    assert len([*(tmp_path / "run" / "logs").glob("*-compile_inductor")]) == 1  # tried once
    # On a CPU without bf16 it cannot even be opened.
    assert ends["bf16"][0] in {"failed its gate", "failed"}
    # The same tables by both limits, rounded once.
    assert ends["int8"][0] == "failed its gate"
    assert "quantize_tables: parity: " in ends["int8"][1]
    own = "int8, by limits of its own"
    assert "p50" in ends[own][1]
    assert [each["stage"] for each in run["stages"]].count("export_onnx") == 2
    held = [
        each["verdicts"][0]["numbers"]["max_abs_limit"]
        for each in run["stages"]
        if each["stage"] == "quantize_tables"
    ]
    assert held == [1e-5, 0.5]
    assert len([*(tmp_path / "run" / ".cache").glob("quantize_tables-*")]) == 1
    measured = json.loads((tmp_path / "run" / "measurements.json").read_text())["measurements"]
    assert [each["target"]["name"] for each in measured] == ["onnx", "again", own, "torch eager"]
    kept = open_artifact(tmp_path / "run" / run["chosen"])
    assert kept.passed
    # On a busy machine there is one more, about the measuring.
    of_branches = [each for each in kept.manifest.notes if each != f"auto: {run['note']}"]
    assert [note.split(": ")[1:3] for note in of_branches] == [
        [name, end] for name, (end, _) in ends.items()
    ]


class TestDamage:
    def test_a_flipped_byte_is_refused_by_name_and_the_next_run_mends_it(self, tmp_path, out):
        shutil.copytree(out, tmp_path, dirs_exist_ok=True)
        chosen = tmp_path / json.loads((tmp_path / "run.json").read_text())["chosen"]
        model = chosen / "model.onnx"
        data = bytearray(model.read_bytes())
        data[len(data) // 2] ^= 1
        model.write_bytes(data)
        inspected = subprocess.run(
            optimize("inspect", chosen), capture_output=True, text=True, check=False
        )
        assert inspected.returncode == 2
        assert "model.onnx" in inspected.stderr
        again = run_to_end(tmp_path)
        assert again.returncode == 0, again.stderr
        assert "making it again" in again.stderr
        assert open_artifact(chosen).passed

    def test_kills_at_random_moments_leave_whole_artifacts_and_the_run_completes(self, tmp_path):
        moments = random.Random(4)
        killed = 0
        for _ in range(8):
            run = subprocess.Popen(
                optimize("run", TINY, "--out", tmp_path), stderr=subprocess.DEVNULL
            )
            try:
                run.wait(moments.uniform(0.3, 6))
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait()
                killed += 1
            for folder in (*tmp_path.glob("artifacts/[0-9]*"), *tmp_path.glob(".cache/[a-z]*")):
                open_artifact(folder)  # raises if anything is half-written
            if run.returncode == 0:
                break
        assert killed >= 3
        done = run_to_end(tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "run.json").read_text())["passed"]
        assert not list(tmp_path.rglob(".aside-*")), "the next run cleared what was half-made"


@pytest.mark.parametrize(
    ("ranker", "said"),
    [
        # What a ranker can be refused for is tested in test_capture.py; here, that it arrives.
        ("branches_on_values", "use torch.where"),
        ("crashes", "crashed with SIGSEGV"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(ranker, said, tmp_path):
    done = run_to_end(tmp_path, ranker=f"{EXAMPLES}:{ranker}")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in done.stderr


def test_a_run_that_chose_nothing_cannot_be_found(tmp_path):
    from optimize.run import find_artifact

    (tmp_path / "run.json").write_text('{"chosen": null}')
    with pytest.raises(UserError, match="no artifact of this run passed"):
        find_artifact(tmp_path)
