"""How far a long command has come."""

from __future__ import annotations

import io
import sys
import threading

import pytest
from rich.console import Console

from bench.progress import progress


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def test_elsewhere_than_on_a_terminal_it_is_plain_lines(capsys):
    with progress(steps=2) as say:
        say("round 1 of 2: a")
        say("round 2 of 2: b")
    told = capsys.readouterr()
    assert told.err == "round 1 of 2: a\nround 2 of 2: b\n"
    assert told.out == ""


@pytest.mark.parametrize("how", [{"steps": 4}, {"steps": 1}, {"budget_s": 60.0}])
def test_on_a_terminal_it_is_a_bar_that_goes_away_and_has_no_thread(how, capsys):
    console = terminal()
    before = threading.active_count()
    with progress(**how, console=console) as say:
        for number in range(how.get("steps", 2)):
            say(f"step {number} of [many]")  # no markup
            assert threading.active_count() == before
        written = console.file.getvalue()
        sys.stdout.write("a result\n")
    assert "step 0 of [many]" in written
    assert console.file.getvalue().endswith("\x1b[2K")  # its line is cleared
    assert capsys.readouterr().out == "a result\n"  # standard output is left alone


def test_between_steps_nothing_is_drawn(monkeypatch):
    console = terminal()
    with progress(steps=3, console=console) as say:
        say("one")
        drawn = console.file.getvalue()
        threading.Event().wait(0.3)
        assert console.file.getvalue() == drawn
