"""Slices: parts of the evaluation on which a ranker is judged apart.

===========================  =======================================================================
``rare``                     candidates whose item ID training met in fewer than 10 rows
``rare:item<50``             the same of a named feature and count
``cold``                     requests whose user ID training met in fewer than 10 requests
``cold:user_id<3``           the same of a named feature and count
``cold:history<5``           requests whose bag or history holds fewer than 5 IDs
``long``                     requests whose history is in the longest quarter
``long:history>=50``         requests whose history holds 50 IDs or more
``few``, ``many``            requests whose number of candidates is in the lowest or highest quarter
``few<20``, ``many>=200``    requests of fewer than 20, of 200 candidates or more
``country=7``                a value; of a bag, that it holds the ID
``price=0..9.99``            a range with both ends; either may be left out
``price=90%..``              a range of quantiles over the candidates (of a user feature, requests)
``dense[3]=0..1``            one place of a vector
===========================  =======================================================================

A number may be a share: ``rare<10%`` are the candidates of the rarest items that make up a tenth of
all, ``long>=90%`` the requests with the longest tenth of histories.

A slice by a user feature is of requests. A slice by an item feature is of candidates: a request
keeps those that are in it, and is judged on how it ranks them among each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.bags import bag_sizes
from rankers.errors import UserError
from rankers.seen import counted_features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.features import Feature, Signature
    from rankers.requests import Array, RequestBatch

NAMED = ("rare", "cold", "long")
FEWER_THAN = 10
_LONGEST = "75%"  # the quantile from which a history is long
_NAMED = re.compile(r"(rare|cold|long)(?::([A-Za-z_]\w*))?(?:(<|>=)([0-9]+%?))?")
_CANDIDATES = re.compile(r"(few<|many>=)([0-9]+%?)")
_VALUES = re.compile(r"([A-Za-z_]\w*)(?:\[([0-9]+)\])?=(.+)")


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of an evaluation.

    Attributes:
        name: As it was asked for, with what was left out filled in.
        about: What is in it, in words.
        rows: Which candidates are in it, bool ``[ΣN]``.
    """

    name: str
    about: str
    rows: Array


def usual_slices(signature: Signature) -> tuple[str, ...]:
    """Return which of `NAMED` the features have something for."""
    return tuple(each for each in NAMED if _feature_of(each, signature) is not None)


def gate_slices(signature: Signature) -> tuple[str, ...]:
    """Return the slices that gates look at: as large as they are rare, whatever the evaluation."""
    usual = {"rare": "rare<10%", "cold": "cold<10%", "long": "long>=75%"}
    return (*(usual[each] for each in usual_slices(signature)), "few", "many")


def cut_slice(
    spec: str,
    requests: RequestBatch,
    signature: Signature,
    seen: Mapping[str, Array] | None = None,
) -> Slice:
    """Find the candidates of a slice.

    Args:
        spec: As this module's table shows.
        requests: The evaluation.
        signature: Of its features.
        seen: How often training met each ID (`rankers.seen`); where it does not say, IDs are
            counted in the evaluation itself, and the slice says so.

    Raises:
        UserError: The slice is not of one of these forms, or its feature is not there or not of the
            kind that it needs.
    """
    if found := _NAMED.fullmatch(spec):
        kind, name, sign, number = found.groups()
        feature = signature.feature(name) if name else _feature_of(kind, signature)
        if feature is None:
            raise UserError(f"slice {spec!r}: no feature is {_NEEDS[kind]}; name one, {kind}:NAME")
        if sign and (sign == ">=") != (kind == "long"):
            raise UserError(f"slice {spec!r}: {_NEEDS['form']}")
        if kind == "long" or feature.padding is not None:
            return _by_size(kind, feature, number, requests)
        return _by_count(kind, feature, number or str(FEWER_THAN), requests, seen or {})
    if found := _CANDIDATES.fullmatch({"few": "few<25%", "many": "many>=75%"}.get(spec, spec)):
        return _by_candidates(found[1], found[2], requests)
    if found := _VALUES.fullmatch(spec):
        name, place, values = found.groups()
        feature = signature.feature(name)
        column = _column(spec, feature, None if place is None else int(place), requests)
        return _by_value(spec, feature, column, values, requests)
    raise UserError(f"slice {spec!r} is not understood; {_NEEDS['form']}")


_NEEDS = {
    "rare": "an item's ID with a cardinality",
    "cold": "a user's ID with a cardinality or a bag of IDs",
    "long": "a user's bag or history of IDs",
    "form": "it is rare, cold or long with :FEATURE and <N (long: >=N), few<N, many>=N, or "
    "FEATURE=VALUE, "
    "FEATURE=LOW..HIGH, FEATURE=50%..100%",
}


def _feature_of(kind: str, signature: Signature) -> Feature | None:
    """Return the feature that is most likely meant: of the largest cardinality or length."""
    side = "item" if kind == "rare" else "user"
    ids = [each for each in counted_features(signature) if each.side == side]
    bags = [each for each in signature.user if each.padding is not None]
    if kind == "long" or (kind == "cold" and not ids):
        return max(bags, key=lambda each: each.width, default=None)
    return max(ids, key=lambda each: each.cardinality or 0, default=None)


def _by_count(
    kind: str, feature: Feature, number: str, requests: RequestBatch, seen: Mapping[str, Array]
) -> Slice:
    wrong_side = (kind == "rare") != (feature.side == "item")
    if wrong_side or feature.cardinality is None or feature.shape != ():
        raise UserError(f"slice {kind}:{feature.name}: the feature is not {_NEEDS[kind]}")
    column = _values(feature, requests)
    known = feature.name in seen
    counts = seen[feature.name] if known else np.bincount(column, minlength=feature.cardinality)
    fewer_than = _below(number, counts[column])
    what = "candidates" if feature.side == "item" else "requests"
    where = "training" if known else "the evaluation itself (no counts of the training are there)"
    return Slice(
        f"{kind}:{feature.name}<{fewer_than}",
        f"{feature.name} in fewer than {fewer_than} {what} of {where}",
        _per_row(feature, counts[column] < fewer_than, requests),
    )


def _by_size(kind: str, feature: Feature, number: str | None, requests: RequestBatch) -> Slice:
    if feature.padding is None or kind == "rare":
        raise UserError(f"slice {kind}:{feature.name}: the feature is not {_NEEDS[kind]}")
    sizes = bag_sizes(_values(feature, requests), feature.padding)
    if kind == "cold":
        limit = _below(number or str(FEWER_THAN), sizes)
        chosen, sign = sizes < limit, "<"
    else:
        limit = max(1, _from(number or _LONGEST, sizes))
        chosen, sign = sizes >= limit, ">="
    about = f"fewer than {limit}" if kind == "cold" else f"{limit} or more"
    return Slice(
        f"{kind}:{feature.name}{sign}{limit}",
        f"{feature.name} holds {about} IDs",
        _per_row(feature, chosen, requests),
    )


def _by_candidates(kind: str, number: str, requests: RequestBatch) -> Slice:
    counts = requests.candidates
    few = kind == "few<"
    limit = _below(number, counts) if few else _from(number, counts)
    chosen = counts < limit if few else counts >= limit
    about = (
        f"requests of {'fewer than ' if few else ''}{limit} candidates{'' if few else ' or more'}"
    )
    return Slice(f"{kind}{limit}", about, np.repeat(chosen, counts))


def _below(number: str, values: Array) -> int:
    """Return the number below which values are few: as it is, or above a share of the values."""
    if not number.endswith("%"):
        return int(number)
    return int(np.quantile(values, _share(number), method="lower")) + 1


def _from(number: str, values: Array) -> int:
    """Return the number from which values are many."""
    if not number.endswith("%"):
        return int(number)
    return int(np.ceil(np.quantile(values, _share(number))))


def _share(number: str) -> float:
    share = int(number[:-1]) / 100
    if share > 1:
        raise UserError(f"a slice of {number}: a share is from 0% to 100%")
    return share


def _by_value(
    spec: str, feature: Feature, column: Array, values: str, requests: RequestBatch
) -> Slice:
    low, dots, high = values.partition("..")
    if not dots:
        wanted = _number(spec, values)
        chosen, about = column == wanted, f"{spec.partition('=')[0]} is {values}"
        if feature.padding is not None:
            chosen, about = (column == wanted).any(axis=1), f"{feature.name} holds {values}"
        return Slice(spec, about, _per_row(feature, chosen, requests))
    if feature.padding is not None:
        raise UserError(f"slice {spec!r}: a range is of numbers; slice a bag by one ID that it "
                        f"holds, or by its size: long:{feature.name}>=N")  # fmt: skip
    first = _end(spec, low, column) if low else column.min()
    last = _end(spec, high, column) if high else column.max()
    chosen = (column >= first) & (column <= last)
    about = f"{spec.partition('=')[0]} from {first:.6g} to {last:.6g}"
    return Slice(spec, about, _per_row(feature, chosen, requests))


def _column(spec: str, feature: Feature, place: int | None, requests: RequestBatch) -> Array:
    """Return a bag's IDs ``[rows, L]``, or one value a row ``[rows]``."""
    values = _values(feature, requests)
    if feature.padding is not None and place is None:
        return values
    if place is None and feature.width > 1:
        raise UserError(f"slice {spec!r}: {feature.name!r} has {feature.width} values a row; name "
                        f"a place: {feature.name}[0]=…")  # fmt: skip
    if (place or 0) >= feature.width:
        raise UserError(f"slice {spec!r}: {feature.name!r} has places 0 to {feature.width - 1}")
    return values.reshape(len(values), -1)[:, place or 0]


def _end(spec: str, text: str, column: Array) -> float:
    if not text.endswith("%"):
        return _number(spec, text)
    share = _number(spec, text[:-1])
    if not 0 <= share <= 100:
        raise UserError(f"slice {spec!r}: {text} is not a quantile; expected 0% to 100%")
    return float(np.quantile(column, share / 100))


def _number(spec: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"slice {spec!r}: {text!r} is not a number")
    return value


def _values(feature: Feature, requests: RequestBatch) -> Array:
    """Return a feature's column: ``[R, …]`` of the user's, ``[ΣN, …]`` of the item's."""
    return (requests.user if feature.side == "user" else requests.items)[feature.name]


def _per_row(feature: Feature, chosen: Array, requests: RequestBatch) -> Array:
    return np.repeat(chosen, requests.candidates) if feature.side == "user" else chosen
