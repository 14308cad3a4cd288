"""Requests that no ranker reads: a good one, spoilt by a seed in one of many ways."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from rankers.features import Feature, Signature
    from rankers.requests import Array


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to a client.

    Attributes:
        kind: How it was spoilt; ``right`` if it was not.
        request: What is asked; of any type.
        named: What the refusal has to name; any of them. Empty if scores have to come.
        options: Of `rank`.
    """

    kind: str
    request: Any
    named: tuple[str, ...] = ()
    options: dict[str, Any] | None = None


def spoil(request: RankingRequest, signature: Signature, seed: int) -> Asked:
    """Return a request that is spoilt by the seed, or left right in one of ten times.

    Args:
        request: A good one; it is not changed.
        signature: What it fits.
        seed: Says how.
    """
    random = Random(seed)
    if random.random() < 0.1:
        return Asked("right", request)
    kind = random.choice(sorted(_WAYS))
    feature = random.choice(signature.features)
    return replace(_WAYS[kind](random, request, feature), kind=kind)


def spoil_bytes(body: bytes, seed: int) -> bytes:
    """Return a serialized request with something cut off, put in, turned over or added."""
    random = Random(seed)
    way = random.randrange(6)
    place = random.randrange(len(body))
    if way == 0:
        return body[:place]
    if way == 1:
        return body[:place] + random.randbytes(random.randint(1, 9)) + body[place:]
    if way == 2:
        return body + random.randbytes(random.choice([1, 10, 1000, 100_000]))
    if way == 3:
        return random.randbytes(random.choice([0, 1, 17, 1000, 50_000]))
    changed = bytearray(body)
    # Where names, types, shapes and lengths are, or anywhere.
    most = len(body) if way == 4 else min(220, len(body))
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(most)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _with(request: RankingRequest, feature: Feature, column: Any) -> RankingRequest:
    if feature.side == "user":
        return replace(request, user=request.user | {feature.name: column})
    return replace(request, items=request.items | {feature.name: column})


def _column(request: RankingRequest, feature: Feature) -> Array:
    return (request.user if feature.side == "user" else request.items)[feature.name]


def _missing(_random: Random, request: RankingRequest, feature: Feature) -> Asked:
    user, items = dict(request.user), dict(request.items)
    (user if feature.side == "user" else items).pop(feature.name)
    return Asked("", replace(request, user=user, items=items), (feature.name, "no candidates"))


def _unknown(random: Random, request: RankingRequest, feature: Feature) -> Asked:
    name = random.choice(["", "x" * 3000, feature.name + "_", "a\nb", "漢", 7])
    column = _column(request, feature)
    columns: Any = (request.user if feature.side == "user" else request.items) | {name: column}
    changed = {"user" if feature.side == "user" else "items": columns}
    return Asked("", replace(request, **changed), ("unknown",))


def _dtype(random: Random, request: RankingRequest, feature: Feature) -> Asked:
    wanted = [each for each in _DTYPES if np.dtype(each) != np.dtype(feature.dtype)]
    column = _column(request, feature).astype(random.choice(wanted))
    return Asked("", _with(request, feature, column), (feature.name,))


def _shape(random: Random, request: RankingRequest, feature: Feature) -> Asked:
    column = _column(request, feature)
    changed: Any = random.choice(
        [
            column[..., np.newaxis],
            column[np.newaxis],
            np.repeat(column, 2, axis=0),
            column[:0],
            column.reshape(-1)[0],  # a scalar
            np.array(column.reshape(-1)[0]),  # and one of no axes
            np.concatenate([column, column[:1]]),
        ]
    )
    return Asked("", _with(request, feature, changed), (feature.name, "no candidates", "shape"))


def _no_array(random: Random, request: RankingRequest, feature: Feature) -> Asked:
    column = _column(request, feature)
    changed = random.choice(
        [None, column.tolist(), "text", 7, {}, [[1], [1, 2]], object(), column.tobytes(), [[]]]
    )
    return Asked("", _with(request, feature, changed), (feature.name,))


def _value(random: Random, request: RankingRequest, feature: Feature) -> Asked:
    column = _column(request, feature).copy()
    place = random.randrange(column.size)
    if column.dtype.kind == "f":
        column.reshape(-1)[place] = random.choice([np.nan, np.inf, -np.inf])
    elif feature.cardinality is not None:
        limits = np.iinfo(column.dtype)
        column.reshape(-1)[place] = random.choice(
            [-1, feature.cardinality, int(limits.min), int(limits.max)]
        )
    else:
        return Asked("", request)
    return Asked("", _with(request, feature, column), (feature.name,))


def _no_request(random: Random, request: RankingRequest, _feature: Feature) -> Asked:
    some: Any = random.choice(
        [
            None,
            7,
            "request",
            request.items,
            [request],
            replace(request, items={}),
            replace(request, user={}),
            RankingRequest(user=None, items=request.items),  # type: ignore[arg-type]
            RankingRequest(user=request.user, items=None),  # type: ignore[arg-type]
            RankingRequest(user=[], items=[1, 2]),  # type: ignore[arg-type]
        ]
    )
    return Asked("", some, ("request", "missing", "no candidates", "features are a"))


def _view(random: Random, request: RankingRequest, feature: Feature) -> Asked:
    """Change how the column lies in memory, and nothing else: it has to be read rightly."""
    column = _column(request, feature)
    changed: Any = random.choice(
        [
            np.asfortranarray(column),
            np.repeat(column, 2, axis=0)[::2],
            np.repeat(column[..., np.newaxis], 2, axis=-1)[..., 0],
            np.frombuffer(column.tobytes(), column.dtype).reshape(column.shape),  # read-only
            np.ma.masked_array(column),
            column[::-1][::-1],
        ]
    )
    return Asked("", _with(request, feature, changed))


def _timeout(random: Random, request: RankingRequest, _feature: Feature) -> Asked:
    some: Any = random.choice([float("nan"), "soon", 1j, [1], object(), -1, 0, -float("inf")])
    return Asked("", request, ("timeout_s", "no scores within"), {"timeout_s": some})


def _oversized(random: Random, request: RankingRequest, _feature: Feature) -> Asked:
    """Ask for far more candidates than the model answers at once: the same ones, many times."""
    times = random.choice([50, 300])
    items = {name: np.concatenate([column] * times) for name, column in request.items.items()}
    return Asked("", replace(request, items=items))


_DTYPES = (
    *("int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"),
    *("bool", "complex64", "object", "U8", "S8", ">i8", ">f4", "datetime64[s]", "V8"),
)
_WAYS: dict[str, Callable[[Random, RankingRequest, Feature], Asked]] = {
    "missing": _missing,
    "unknown": _unknown,
    "dtype": _dtype,
    "shape": _shape,
    "no array": _no_array,
    "value": _value,
    "no request": _no_request,
    "view": _view,
    "timeout": _timeout,
    "oversized": _oversized,
}
