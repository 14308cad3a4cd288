"""IDs out of values: the same value gets the same ID in training, evaluation and serving.

Nothing is counted and no vocabulary is kept, so a value that was never seen in training has an ID
as well: it shares a bucket with others. 0 is for a missing value and nothing else.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.requests import Array

MISSING = 0


def hash_ids(values: Sequence[str | None], buckets: int, *, salt: str) -> Array:
    """Hash values to 1…buckets; None and the empty text become 0.

    BLAKE2b over the salt and the value's UTF-8, its first 8 bytes as a number, modulo buckets.

    Args:
        values: Texts; a number is hashed as it is written.
        buckets: How many IDs there are besides 0: the feature's cardinality is one more.
        salt: The feature's name: the same value means something else in another feature.

    Returns:
        int64 ``[values]``.

    Raises:
        UserError: There are no buckets.
    """
    if buckets < 1:
        raise UserError(f"{buckets} buckets were asked for; at least 1 is needed")
    known: dict[str | None, int] = {None: MISSING, "": MISSING}
    ids = np.empty(len(values), dtype=np.int64)
    for place, value in enumerate(values):
        found = known.get(value)
        if found is None:
            text = f"{salt}\0{value}".encode()
            digest = hashlib.blake2b(text, digest_size=8).digest()
            found = known[value] = int.from_bytes(digest, "little") % buckets + 1
        ids[place] = found
    return ids
