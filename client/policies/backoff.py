"""How long a retry waits: a random time up to a limit that doubles ("full jitter").

Brooker, "Exponential Backoff And Jitter" (2015): callers that failed together do not come back
together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_FIRST_S, _LONGEST_S = 0.002, 0.1


def backoff_s(retry: int, random: Random) -> float:
    """Return how long the retry of this number, 0 first, waits."""
    return random.uniform(0.0, min(_LONGEST_S, _FIRST_S * 2**retry))
