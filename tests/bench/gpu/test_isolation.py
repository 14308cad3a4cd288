"""A cell that crashes, hangs or never starts ends alone; every cell ends, and says how."""

import sys
import time

import pytest

from bench.gpu.isolation import Budget, run_cells

# Works through its cells; "abort" and "hang" do so, "silent" ends before it says anything.
CHILD = """
import json, os, sys, time
events, *cells = sys.argv[1:]
def tell(cell, event, **more):
    with open(events, "a") as file:
        file.write(json.dumps({"cell": cell, "event": event} | more) + "\\n")
for cell in cells:
    if cell == "silent":
        sys.exit(3)
    tell(cell, "started")
    tell(cell, "rows", rows=1)
    if cell == "abort":
        os.abort()
    while cell == "hang":
        time.sleep(1)
    tell(cell, "ended", status="ok", why="")
"""


@pytest.fixture
def run(tmp_path):
    def run(*cells, cell_s=120.0, seconds=240.0):
        told, started = [], []
        events, log = tmp_path / "events", tmp_path / "log"

        def command(left):
            started.append(list(left))
            return [sys.executable, "-I", "-c", CHILD, str(events), *left]

        budget = Budget(time.monotonic() + seconds, cell_s)
        run_cells(cells, command, budget, told.append, events=events, log=log)
        ended = {each["cell"]: (each["status"], each["why"]) for each in told
                 if each["event"] == "ended"}  # fmt: skip
        return ended, started, told

    return run


def test_cells_that_end_are_told_of_in_order_by_one_child(run):
    ended, started, told = run("a", "b")
    assert ended == {"a": ("ok", ""), "b": ("ok", "")}
    assert started == [["a", "b"]]
    assert [(each["cell"], each["event"]) for each in told] == [
        (cell, event) for cell in "ab" for event in ("started", "rows", "ended")
    ]


def test_a_crash_ends_its_cell_alone_and_keeps_what_it_had_found(run):
    ended, started, told = run("a", "abort", "b")
    assert ended["abort"] == ("crashed", "its process ended with SIGABRT")
    assert ended["a"] == ended["b"] == ("ok", "")
    assert started == [["a", "abort", "b"], ["b"]]
    assert {"cell": "abort", "event": "rows", "rows": 1} in told


def test_a_child_that_starts_nothing_gives_up_a_cell_each_time(run):
    ended, started, _ = run("silent", "a")
    assert ended == {
        "silent": ("crashed", "its process ended with exit code 3"),
        "a": ("ok", ""),
    }
    assert started == [["silent", "a"], ["a"]]


def test_a_cell_that_stands_still_is_ended(run):
    ended, _, _ = run("hang", cell_s=0.5)
    assert ended == {"hang": ("timeout", "nothing happened for 0.5 s")}


def test_what_there_is_no_time_for_is_said(run):
    ended, started, _ = run("a", "b", seconds=-1)
    assert ended == dict.fromkeys("ab", ("not run", "the time was over"))
    assert started == []
