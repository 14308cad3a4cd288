"""Requests made up for a signature: popular and rare entities, each with features of its own.

A request is a user and candidates; both are *entities*, drawn by popularity from a working set.
The features of an entity follow from its number alone, so that an item that comes again brings the
same IDs, and how many rows of a table are read is what the working set says: that decides whether
they come from a cache.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from bench.distributions import Zipf
from rankers.errors import UserError
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.distributions import Counts
    from bench.workload_recipe import Side, WorkloadRecipe
    from rankers.features import Feature, Signature
    from rankers.requests import Array, Columns

# Of entities; beyond this the popularity table alone would take hundreds of megabytes.
_LARGEST_SET = 20_000_000
_SMALLEST_SET = 1000
_UNBOUNDED_IDS = 1000


def synthesize(recipe: WorkloadRecipe, signature: Signature, *, seed: int) -> RequestBatch:
    """Make up requests that fit a signature.

    IDs lie within their cardinalities; integers without one are below 1,000; floats are uniform in
    [0, 1), which log and square-root features take too. An ID feature with a shape of one dimension
    is a sequence: it is filled up to a drawn length, and its padding (0 if it states none) beyond.
    A sequence of two values, or of truth values, is its mask.

    Args:
        recipe: How many candidates, how popular entities are, how long sequences are.
        signature: The features.
        seed: The same seed makes the same bytes.

    Raises:
        UserError: The working set of items is smaller than the largest request.
    """
    if recipe.candidates is None:
        raise UserError(f"workload {recipe.name!r} does not say how many candidates a request has")
    random = np.random.default_rng(seed)
    candidates = recipe.candidates.draw(recipe.distinct, random)
    users = _popularity(recipe.users, signature.user)
    items = _popularity(recipe.items, signature.item)
    if candidates.max() > items.size:
        raise UserError(
            f"the workload's items have a working set of {items.size}, but a request has "
            f"{candidates.max()} candidates: make the working set larger"
        )
    user_ids = users.draw(recipe.distinct, random)
    item_ids = np.concatenate([items.draw_distinct(int(count), random) for count in candidates])
    batch = RequestBatch(
        user=_columns(signature.user, user_ids, recipe.sequences, seed),
        items=_columns(signature.item, item_ids, recipe.sequences, seed),
        offsets=np.concatenate([[0], np.cumsum(candidates)]).astype(np.int64),
    )
    batch.check(signature)
    return batch


def _popularity(side: Side, features: Sequence[Feature]) -> Zipf:
    largest = max((each.cardinality or 0 for each in features), default=0)
    size = side.working_set or min(max(largest, _SMALLEST_SET), _LARGEST_SET)
    return Zipf(size, side.zipf)


def _columns(
    features: Sequence[Feature], entities: Array, lengths: Counts | None, seed: int
) -> Columns:
    """Return the features of entities, int64 ``[rows]``: each ``[rows, …]``."""
    return {each.name: _column(each, entities, lengths, seed) for each in features}


def _column(feature: Feature, entities: Array, lengths: Counts | None, seed: int) -> Array:
    rows = len(entities)
    sequence = len(feature.shape) == 1 and not feature.dtype.startswith("float")
    values = _values(feature, entities, seed)  # [rows, W]
    if sequence and lengths is not None:
        held = _lengths(lengths, entities, feature.width, seed)[:, np.newaxis]  # [rows, 1]
        within = np.arange(feature.width) < held
        values = within if _is_mask(feature) else np.where(within, values, feature.padding or 0)
    elif sequence and _is_mask(feature):
        values = np.ones_like(values)
    return np.ascontiguousarray(values.reshape(rows, *feature.shape), dtype=feature.dtype)


def _values(feature: Feature, entities: Array, seed: int) -> Array:
    """Return ``[rows, W]`` values that follow from entity, feature and place alone."""
    salt = zlib.crc32(feature.name.encode()) ^ (seed << 32)
    places = np.arange(feature.width, dtype=np.uint64)
    if feature.cardinality is not None and feature.width == 1:
        return _spread(entities, feature.cardinality, salt)[:, np.newaxis]
    mixed = _mix(_mix(entities.astype(np.uint64), salt)[:, np.newaxis] + places, salt + 1)
    if feature.dtype == "bool":
        return mixed & np.uint64(1)
    if feature.dtype.startswith("float"):
        # 10 bits, so that float16 cannot round up to 1.
        return (mixed >> np.uint64(54)).astype(np.float64) / 1024
    return _ids(feature, mixed)


def _ids(feature: Feature, mixed: Array) -> Array:
    """Return IDs out of hashes, none of them the padding, int64 of the hashes' shape."""
    count = feature.cardinality or _UNBOUNDED_IDS
    if feature.padding is None or count < 2:
        return (mixed % np.uint64(count)).astype(np.int64)
    ids: Array = (mixed % np.uint64(count - 1)).astype(np.int64)
    return ids + (ids >= feature.padding)


def _spread(entities: Array, cardinality: int, salt: int) -> Array:
    """Map entities over a table: different ones to different rows as long as there are rows.

    A step that shares no divisor with the table's size visits every row once.
    """
    random = np.random.default_rng(salt)
    step = int(random.integers(1, cardinality + 1))
    while math.gcd(step, cardinality) != 1:
        step = step % cardinality + 1
    start = int(random.integers(0, cardinality))
    # Both factors are below 2**31 or so: their product fits.
    return (entities % cardinality * step + start) % cardinality


def _lengths(lengths: Counts, entities: Array, longest: int, seed: int) -> Array:
    """Return a length for each entity, int64 ``[rows]``: the same for all its sequences."""
    table = lengths.draw(4096, np.random.default_rng(seed))
    places = _mix(entities.astype(np.uint64), seed) % np.uint64(len(table))
    return np.minimum(table[places.astype(np.int64)], longest)


def _is_mask(feature: Feature) -> bool:
    return feature.dtype == "bool" or feature.cardinality == 2


def _mix(values: Array, salt: int) -> Array:
    """Return hashes of uint64 values (SplitMix64, public domain, Steele et al. 2014)."""
    x = values + np.uint64((salt * 0x9E3779B97F4A7C15) % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
