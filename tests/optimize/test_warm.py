"""Forked children: as fresh ones in all that a caller sees, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from example_rankers import EXAMPLES
from in_process import children_in_this_process, here

from optimize import steps
from optimize.artifact import open_artifact
from optimize.children import Limits, run_child
from optimize.pipeline import run_recipe
from optimize.recipe import load_recipe
from optimize.warm import Warm
from rankers.errors import UserError

AMPLE = Limits(seconds=120, memory_bytes=8 * 2**30)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere nothing is forked"
)


class Counting(Warm):
    """Remembers what it forked: a fresh child would pass most tests as well."""

    def __init__(self):
        super().__init__()
        self.forked = []

    def fork(self, *arguments):
        # Where the environment is another nothing is forked, and this changes with every test.
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        self.forked.append(super().fork(*arguments))
        return self.forked[-1]


@pytest.fixture(scope="module")
def shared_warm():
    """One warm process for all tests, which shows that it bears what its children do."""
    with Counting() as warm:
        yield warm


@pytest.fixture
def warm(shared_warm):
    shared_warm.forked.clear()
    yield shared_warm
    assert shared_warm.forked
    assert all(shared_warm.forked)


def capture(function, folder, warm, limits=AMPLE):
    return run_child(capture_arguments(function, folder), logs=folder, limits=limits, warm=warm)


def capture_arguments(function, folder):
    return ["capture", f"{EXAMPLES}:{function}", "--store", str(folder / "store")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Note which children of a run might be forked, with their commands in this process."""
    noted = {}

    def note(arguments, *, logs, limits, warm=None):
        noted[logs.name] = warm is not None
        return here(arguments, logs=logs, limits=limits)

    with children_in_this_process() as patch:
        patch.setattr(steps, "run_child", note)
        out = tmp_path_factory.mktemp("run")
        done = run_recipe(f"{EXAMPLES}:tiny", load_recipe("cpu-fp32"), out, limits=AMPLE)
    return done, noted


def test_those_that_read_programs_may_be_forked(run):
    assert run[1] == {
        "1-capture": False,
        "1-capture-gate": True,
        "2-user_once": True,
        "2-user_once-gate": True,
        "3-export_onnx": True,
        "3-export_onnx-gate": False,
        "4-optimize_onnx": False,
        "4-optimize_onnx-gate": False,
    }


def test_it_makes_what_a_fresh_one_makes_byte_for_byte(run, tmp_path, warm):
    program = run[0].results[1].artifact.folder
    files = []
    for name, forks in (("forked", warm), ("fresh", None)):
        arguments = ["stage", "export_onnx", str(program), "--store", str(tmp_path / name)]
        said = run_child(arguments, logs=tmp_path / name, limits=AMPLE, warm=forks)
        files.append(open_artifact(Path(said["artifact"])).manifest.files)
    assert files[0] == files[1]


def test_its_own_error_is_passed_on_word_for_word(tmp_path, warm):
    with pytest.raises(UserError, match="returned int; expected a rankers Ranker"):
        capture("not_a_ranker", tmp_path, warm)


def test_what_it_prints_does_not_come_between(tmp_path, warm):
    said = capture("talks", tmp_path, warm)
    assert Path(said["artifact"]).is_dir()
    assert "the first word" in (tmp_path / "log.txt").read_text()


def test_a_crash_names_the_signal_and_spares_the_warm_process(tmp_path, warm):
    for _ in range(2):
        with pytest.raises(UserError, match=r"capture crashed with SIGSEGV: see .*log\.txt"):
            capture("crashes", tmp_path, warm)


def test_no_two_draw_the_same(tmp_path, warm):
    drawn = []
    for _ in range(2):
        with pytest.raises(UserError):
            capture("draws", tmp_path, warm)
        said = (tmp_path / "log.txt").read_text().splitlines()
        drawn += next(line for line in said if line.startswith("drawn: ")).split()[1:]
    assert len({*drawn}) == 6


def test_one_that_hangs_is_ended(tmp_path, warm):
    with pytest.raises(UserError, match="ran longer than its limit of 1 s"):
        capture("hangs", tmp_path, warm, Limits(1, AMPLE.memory_bytes))
    assert not psutil.pid_exists(warm.forked[0].pid)


def test_one_that_eats_memory_is_ended(tmp_path, warm):
    with pytest.raises(UserError, match=r"its limit is 1\.5 GiB: raise --memory-limit"):
        capture("eats_memory", tmp_path, warm, Limits(60, 1500 * 2**20))


def test_in_another_environment_it_would_not_be_the_same(tmp_path, warm, monkeypatch):
    with pytest.raises(UserError):
        capture("not_a_ranker", tmp_path, warm)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with (tmp_path / "output").open("wb") as output:
        assert Warm.fork(warm, ["stages"], output, output) is None


def test_with_a_killed_warm_process_its_child_ends_and_the_next_are_fresh(tmp_path):
    with Counting() as warm, (tmp_path / "output").open("wb") as output:
        assert warm.pid is None
        child = warm.fork(capture_arguments("hangs", tmp_path), output, output)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.1)
        family = [psutil.Process(warm.pid), psutil.Process(child.pid)]
        os.kill(warm.pid, signal.SIGKILL)
        assert child.wait(20) == -signal.SIGKILL
        with pytest.raises(UserError, match="returned int"):
            capture("not_a_ranker", tmp_path, warm)
        assert warm.forked == [child, None]
        assert not psutil.wait_procs(family, timeout=20)[1]


def test_nothing_is_left_of_a_killed_parent(tmp_path):
    code = (
        "from pathlib import Path; from optimize.children import Limits, run_child; "
        "from optimize.warm import Warm; "
        f"run_child({capture_arguments('hangs', tmp_path)!r}, logs=Path({str(tmp_path)!r}), "
        "limits=Limits(60, 2**40), warm=Warm())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path.cwd())
    family = _wait_for_family(parent.pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert not psutil.wait_procs(family, timeout=20)[1]


def test_a_process_with_a_second_thread_does_not_fork():
    code = (
        "import threading, time; from optimize.warm_process import _may_fork; print(_may_fork()); "
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); print(_may_fork())"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["True", "False"]


def _wait_for_family(pid):
    """Return the warm process and its child, once that is in a group of its own."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        family = psutil.Process(pid).children(recursive=True)
        if len(family) == 2 and os.getpgid(family[1].pid) == family[1].pid:
            return family
        time.sleep(0.1)
    raise AssertionError("the child did not start")
