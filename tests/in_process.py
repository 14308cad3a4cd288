"""The commands of a run's child processes, in this one: they do the same, without a start each."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager, redirect_stdout

import pytest

from optimize import steps
from optimize.cli import main


def here(arguments, *, logs, limits, warm=None):
    """Stand in for `optimize.children.run_child`, which test_children.py and others test."""
    with redirect_stdout(io.StringIO()) as said:
        main.main(list(arguments), standalone_mode=False)
    return json.loads(said.getvalue())


@contextmanager
def children_in_this_process():
    """Give the patch, so that a test can put something else in the place of ``here``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "run_child", here)
        yield patch
