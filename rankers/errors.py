"""What is said to a person whose input was wrong."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class UserError(Exception):
    """A mistake the caller can mend. The message is one line: what was wrong, and what to do.

    Every command line prints it after ``error:`` and exits with code 2.
    """


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
