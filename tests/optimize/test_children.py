"""Children: limits are kept, crashes are told, and nobody outlives the parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from example_rankers import EXAMPLES

from optimize.children import Limits, run_child
from rankers.errors import UserError

AMPLE = Limits(seconds=120, memory_bytes=8 * 2**30)


def capture_arguments(function, tmp_path):
    return ["capture", f"{EXAMPLES}:{function}", "--store", str(tmp_path / "store")]


def test_a_childs_own_error_is_passed_on_word_for_word(tmp_path):
    with pytest.raises(UserError, match="returned int; expected a rankers Ranker"):
        run_child(capture_arguments("not_a_ranker", tmp_path), logs=tmp_path, limits=AMPLE)


def test_what_a_users_code_prints_does_not_come_between(tmp_path):
    said = run_child(capture_arguments("talks", tmp_path), logs=tmp_path, limits=AMPLE)
    assert Path(said["artifact"]).is_dir()
    assert "the first word" in (tmp_path / "log.txt").read_text()


def test_a_crash_names_the_signal_and_the_log(tmp_path):
    with pytest.raises(UserError, match=r"capture crashed with SIGSEGV: see .*log\.txt"):
        run_child(capture_arguments("crashes", tmp_path), logs=tmp_path, limits=AMPLE)


def test_the_reproduce_script_gives_the_same_crash(tmp_path):
    with pytest.raises(UserError):
        run_child(capture_arguments("crashes", tmp_path), logs=tmp_path, limits=AMPLE)
    done = subprocess.run(["/bin/sh", tmp_path / "reproduce.sh"], check=False, capture_output=True)
    assert done.returncode == -signal.SIGSEGV


def test_a_child_that_hangs_is_ended(tmp_path):
    limits = Limits(seconds=4, memory_bytes=AMPLE.memory_bytes)
    with pytest.raises(UserError, match="ran longer than its limit of 4 s"):
        run_child(capture_arguments("hangs", tmp_path), logs=tmp_path, limits=limits)


def test_a_child_that_eats_memory_is_ended(tmp_path):
    limits = Limits(seconds=60, memory_bytes=1500 * 2**20)
    with pytest.raises(UserError, match=r"its limit is 1\.5 GiB: raise --memory-limit"):
        run_child(capture_arguments("eats_memory", tmp_path), logs=tmp_path, limits=limits)


def test_a_child_ends_with_a_killed_parent(tmp_path):
    arguments = capture_arguments("hangs", tmp_path)
    code = (
        "from pathlib import Path; from optimize.children import Limits, run_child; "
        f"run_child({arguments!r}, logs=Path({str(tmp_path)!r}), limits=Limits(60, 2**40))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path.cwd())
    child = _wait_for_child(parent.pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs([child], timeout=20)
    assert not alive


def _wait_for_child(pid):
    """Return the one child, once it is past its start and under its parent's protection."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children()
        if children and any("torch" in each.path for each in children[0].memory_maps()):
            return children[0]
        time.sleep(0.1)
    raise AssertionError("the child did not start")
