"""What is said to a person whose input was wrong."""

from __future__ import annotations

import difflib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class UserError(Exception):
    """A mistake the caller can mend. The message is one line: what was wrong, and what to do.

    Every command line prints it after ``error:`` and exits with code 2.
    """


# Folders that a library's files are in, and those of libraries whose lines tell a person nothing.
LIBRARIES = {"site-packages", "dist-packages"}
NUMERIC = {"torch", "numpy"}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return how to go on when ``name`` is not among ``known``: the nearest, or all of them.

    Args:
        name: What was asked for.
        known: What there is.

    Returns:
        A phrase to end an error message with, such as ``did you mean 'C12'?``.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(each) for each in close)}?"
    if not names:
        return "there are none"
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"known: {listed}"


def user_line(error: BaseException) -> str | None:
    """Return the innermost line of ``error`` that is neither a library's nor rankserve's.

    Returns:
        Such as ``model.py:12 `x.item()` ``. Where the module is itself a library's, the innermost
        line that is not torch's or NumPy's; None if there is none.
    """
    ours = Path(__file__).parents[1]
    packages = {ours / name for name in ("rankers", "optimize", "bench", "client")}
    theirs = None
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if not path.is_file() or packages & set(path.parents) or not frame.line:
            continue
        place = f"{path.name}:{frame.lineno} `{frame.line}`"
        if not LIBRARIES & set(path.parts):
            return place
        if theirs is None and not NUMERIC & set(path.parts):
            theirs = place
    return theirs


def in_one_line(error: BaseException) -> str:
    """Return what a user's own code raised, and where, as one line."""
    said = " ".join(str(error).split()) or "no message"
    place = user_line(error)
    return f"{type(error).__name__}: {said}" + (f", at {place}" if place else "")
