"""How often training met each ID: from a file, to requests as they come and rows that are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optimize.samples import sample_requests
from rankers.errors import UserError, nearest
from rankers.seen import counted_features, load_counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.features import Signature
    from rankers.requests import Array, RequestBatch

_PARQUET = ("feature", "id", "count")


def read_counts(path: str, signature: Signature) -> dict[str, Array]:
    """Read counts of IDs.

    Args:
        path: A checkpoint's ``seen.safetensors`` (by feature, ``[cardinality]``), or a Parquet
            table with the columns ``feature``, ``id`` and ``count``; IDs not in it have none.
        signature: Whose single IDs are counted.

    Returns:
        By feature, int64 ``[cardinality]``.

    Raises:
        UserError: The file cannot be read, a feature has no single IDs of a known cardinality, or
            a count is negative or of an ID beyond it.
    """
    file = Path(path)
    found = _from_parquet(file) if file.suffix == ".parquet" else load_counts(file)
    known = {each.name: each.cardinality or 0 for each in counted_features(signature)}
    found = {name: x for name, x in found.items() if name not in signature.ignored}
    for name, counts in found.items():
        if name not in known:
            raise UserError(
                f"{path}: counts IDs of {name!r}, which is no feature of single IDs; "
                f"{nearest(name, known)}"
            )
        if counts.ndim != 1 or len(counts) > known[name] or (counts < 0).any():
            raise UserError(
                f"{path}: counts of {name!r} have shape {counts.shape} and go from "
                f"{counts.min(initial=0)}; expected up to {known[name]} counts, 0 or more"
            )
    return {name: np.pad(x, (0, known[name] - len(x))) for name, x in found.items()}


def frequent_requests(signature: Signature, rows: int, counts: Mapping[str, Array]) -> RequestBatch:
    """Draw requests of one candidate each, with IDs as often as training met them."""
    batch = sample_requests(signature, [1] * rows)
    random = np.random.default_rng(rows)
    for name, each in counts.items():
        side = batch.user if name in batch.user else batch.items
        if each.sum():
            drawn = random.choice(len(each), rows, p=each / each.sum())
            side[name] = drawn.astype(side[name].dtype)
    return batch


def _from_parquet(path: Path) -> dict[str, Array]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, columns=list(_PARQUET))
        features, ids, counts = (table[name].to_numpy() for name in _PARQUET)
        ids, counts = ids.astype(np.int64), counts.astype(np.int64)
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise UserError(
            f"{path}: cannot be read as counts with the columns {', '.join(_PARQUET)}: {error}"
        ) from error
    if len(ids) and ids.min() < 0:
        raise UserError(f"{path}: counts the ID {ids.min()}; IDs begin at 0")
    return {
        str(name): np.bincount(ids[features == name], counts[features == name]).astype(np.int64)
        for name in np.unique(features)
    }
