from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from rankers.files import new_folder, remove_leftovers, write_atomically

FILL = """
import sys
from pathlib import Path
from rankers.files import new_folder
path = Path(sys.argv[1])
print("ready", flush=True)
while True:
    with new_folder(path, replace=sys.argv[2] == "replace") as aside:
        for number in range(20):
            (aside / str(number)).write_bytes(b"x" * 100_000)
    if sys.argv[2] != "replace":
        break
"""


def kill_while_filling(path, mode, delay):
    process = subprocess.Popen(
        [sys.executable, "-c", FILL, str(path), mode], stdout=subprocess.PIPE
    )
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def is_whole(path):
    files = list(path.iterdir())
    return len(files) == 20 and all(each.stat().st_size == 100_000 for each in files)


class TestNewFolder:
    def test_it_appears_when_the_block_ends(self, tmp_path):
        with new_folder(tmp_path / "made") as aside:
            (aside / "file").write_text("content")
            assert not (tmp_path / "made").exists()
        assert (tmp_path / "made" / "file").read_text() == "content"
        assert [each.name for each in tmp_path.iterdir()] == ["made"]

    def test_an_error_leaves_nothing(self, tmp_path):
        with pytest.raises(RuntimeError), new_folder(tmp_path / "made"):
            raise RuntimeError
        assert not list(tmp_path.iterdir())

    def test_one_that_is_there_stays(self, tmp_path):
        for content in ("first", "second"):
            with new_folder(tmp_path / "made") as aside:
                (aside / "file").write_text(content)
        assert (tmp_path / "made" / "file").read_text() == "first"
        assert [each.name for each in tmp_path.iterdir()] == ["made"]

    def test_one_that_is_there_makes_way_when_asked(self, tmp_path):
        for content in ("first", "second"):
            with new_folder(tmp_path / "made", replace=True) as aside:
                (aside / "file").write_text(content)
        assert (tmp_path / "made" / "file").read_text() == "second"
        assert [each.name for each in tmp_path.iterdir()] == ["made"]

    def test_an_error_leaves_the_one_to_be_replaced(self, tmp_path):
        with new_folder(tmp_path / "made") as aside:
            (aside / "file").write_text("first")
        with pytest.raises(RuntimeError), new_folder(tmp_path / "made", replace=True):
            raise RuntimeError
        assert (tmp_path / "made" / "file").read_text() == "first"

    @pytest.mark.parametrize("mode", ["keep", "replace"])
    def test_a_kill_leaves_the_whole_folder_or_none(self, tmp_path, mode):
        generator = random.Random(0)
        path = tmp_path / "made"
        for _ in range(12):
            kill_while_filling(path, mode, generator.uniform(0, 0.06))
            assert not path.exists() or is_whole(path)
        remove_leftovers(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] in ([], ["made"])


class TestWriteAtomically:
    def test_it_replaces_what_was_there(self, tmp_path):
        write_atomically(tmp_path / "sub" / "file", "old")
        write_atomically(tmp_path / "sub" / "file", b"new")
        assert (tmp_path / "sub" / "file").read_text() == "new"
        assert len(list((tmp_path / "sub").iterdir())) == 1

    def test_it_gives_the_mode_a_new_file_gets(self, tmp_path):
        write_atomically(tmp_path / "ours", "x")
        (tmp_path / "theirs").write_text("x")
        assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode

    def test_a_failure_leaves_what_was_there(self, tmp_path):
        (tmp_path / "file").mkdir()
        with pytest.raises(OSError, match="file"):
            write_atomically(tmp_path / "file", "x")
        assert [each.name for each in tmp_path.iterdir()] == ["file"]
