"""Which IDs can go wrong: beyond their table, lost in a float, negative, or of unknown number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimize.diagnosis.finding import Finding
from optimize.diagnosis.lookups import (
    beyond,
    find_lookups,
    nodes_between,
    rows_asked_for,
    with_values,
)
from optimize.diagnosis.origins import spread_rows
from optimize.diagnosis.trace import features_of, place_of, tensors
from optimize.export import SAMPLE_ROWS

if TYPE_CHECKING:
    from optimize.diagnosis.lookups import Lookup
    from optimize.diagnosis.trace import Trace
    from rankers.features import Feature
    from rankers.ranker import Ranker

# The largest whole number up to which a float type tells all whole numbers apart.
_EXACT = {"float64": 2**53, "float32": 2**24, "float16": 2**11, "bfloat16": 2**8}
# Fewer unread bytes than this are not worth a line.
_WASTED_BYTES = 64 * 1024


def examine_ids(ranker: Ranker, trace: Trace | None) -> list[Finding]:
    """Follow every ID from its feature to the tables, with the largest and smallest it may be."""
    findings = [_beyond_dtype(each) for each in ranker.signature.features if _too_large(each)]
    if trace is None:
        return findings
    lookups = find_lookups(trace, features_of(trace))
    if not lookups:
        return findings
    findings += _beyond_table(ranker, trace, lookups)
    findings += _unread_rows(ranker, trace, lookups)
    for feature in ranker.signature.features:
        reading = [each for each in lookups if feature.name in each.features]
        if not reading:
            continue
        if feature.dtype.startswith("int") and feature.cardinality is None:
            findings += _unbounded(ranker, trace, feature, reading)
        findings += _through_float(ranker, trace, feature, reading)
    return findings


def table_features(trace: Trace) -> dict[str, tuple[str, ...]]:
    """Return for each table, by its parameter's name, the features that choose its rows."""
    found: dict[str, dict[str, None]] = {}
    for each in find_lookups(trace, features_of(trace)):
        found.setdefault(each.name, {}).update(dict.fromkeys(each.features))
    return {name: tuple(features) for name, features in found.items()}


def _too_large(feature: Feature) -> bool:
    return (
        feature.cardinality is not None
        and feature.cardinality - 1 > np.iinfo(np.dtype(feature.dtype)).max
    )


def _beyond_dtype(feature: Feature) -> Finding:
    return Finding(
        "id-beyond-dtype",
        f"{feature.name} has cardinality {feature.cardinality}, and {feature.dtype} ends at "
        f"{np.iinfo(np.dtype(feature.dtype)).max}",
        "declare it int64",
        (feature.name,),
    )


def _beyond_table(ranker: Ranker, trace: Trace, lookups: list[Lookup]) -> list[Finding]:
    """Ask for each feature's largest ID, all features at once, then one by one where that fails."""
    base = spread_rows(ranker, SAMPLE_ROWS)
    bounded = _largest_ids(ranker)
    findings = []
    for limits in (bounded, dict.fromkeys(bounded, 0)):
        asked = rows_asked_for(trace, lookups, with_values(base, limits))
        for lookup in lookups:
            if beyond(lookup, asked[lookup.node]) is None:
                continue
            for name in lookup.features:
                if name not in limits:
                    continue
                one = with_values(base, {name: limits[name]})
                row = beyond(lookup, rows_asked_for(trace, [lookup], one)[lookup.node])
                if row is not None:
                    findings.append(_no_row(name, limits[name], row, lookup))
    return findings


def _largest_ids(ranker: Ranker) -> dict[str, int]:
    """Return each feature's largest ID, where it is known and fits the feature's dtype."""
    return {
        each.name: each.cardinality - 1
        for each in ranker.signature.features
        if each.cardinality is not None and not _too_large(each)
    }


def _no_row(name: str, value: int, row: int, lookup: Lookup) -> Finding:
    return Finding(
        "id-beyond-table",
        f"{name} may be {value}, which asks for row {row}; {lookup.name or 'the table'} has rows 0 "
        f"to {lookup.rows - 1}",
        f"set the feature's cardinality to what the table holds, enlarge the table, or give IDs "
        f"beyond it a row of their own (clamp, or ID % {lookup.rows})",
        (name,),
        place_of(lookup.node),
    )


def _unread_rows(ranker: Ranker, trace: Trace, lookups: list[Lookup]) -> list[Finding]:
    """Find tables of which a feature's cardinality leaves many rows unread."""
    findings = []
    base = spread_rows(ranker, SAMPLE_ROWS)
    for name, reading in _by_table(lookups).items():
        features = {each for lookup in reading for each in lookup.features}
        highest = {each: x for each, x in _largest_ids(ranker).items() if each in features}
        if not name or len(highest) < len(features):
            continue
        asked = rows_asked_for(trace, reading, with_values(base, highest))
        # Only IDs that arrive unchanged tell: a hashed one may be anywhere.
        direct = all(
            len(each.features) == 1 and int(asked[each.node].max()) == highest[each.features[0]]
            for each in reading
        )
        rows, read = reading[0].rows, max(highest.values()) + 1
        table = reading[0].table.meta["val"]
        wasted = (rows - read) * table[0].numel() * table.element_size()
        if direct and rows > 1.1 * read and wasted >= _WASTED_BYTES:
            findings.append(
                Finding(
                    "unused-table-rows",
                    f"{name} has {rows:,} rows, and the largest ID is {read - 1:,}: "
                    f"{wasted / 1e6:.1f} MB are never read",
                    "raise the cardinality if it was set too low, else cut the table",
                    tuple(sorted(features)),
                    place_of(reading[0].node),
                )
            )
    return findings


def _by_table(lookups: list[Lookup]) -> dict[str, list[Lookup]]:
    found: dict[str, list[Lookup]] = {}
    for each in lookups:
        found.setdefault(each.name, []).append(each)
    return found


def _unbounded(
    ranker: Ranker, trace: Trace, feature: Feature, reading: list[Lookup]
) -> list[Finding]:
    """Ask for IDs beyond the table and below 0, for a feature that states no cardinality."""
    base = spread_rows(ranker, SAMPLE_ROWS)
    findings = []
    rows = max(each.rows for each in reading)
    column = ranker.evaluation.flat()[feature.name]
    low, high = int(column.min()), int(column.max())
    above = rows_asked_for(trace, reading, with_values(base, {feature.name: max(rows, high + 1)}))
    lookup = next((each for each in reading if beyond(each, above[each.node]) is not None), None)
    if lookup is not None:
        findings.append(
            Finding(
                "no-cardinality",
                f"{feature.name} states no cardinality, and its IDs (seen: {low} to {high}) read "
                f"{lookup.name or 'a table'} of {lookup.rows} rows: a larger one would fail while "
                "serving",
                f"state cardinality={lookup.rows}, so that requests are checked before they score",
                (feature.name,),
                place_of(lookup.node),
            )
        )
    if low < 0:
        below = rows_asked_for(trace, reading, with_values(base, {feature.name: low}))
        for each in reading:
            asked = int(below[each.node].min())
            if each.wraps and asked < 0:
                findings.append(
                    Finding(
                        "negative-ids",
                        f"{feature.name} is as low as {low}, and row {asked} of "
                        f"{each.name or 'its table'} is its row {each.rows + asked}, another ID's",
                        "give unknown and absent IDs a row of their own, from 0 up",
                        (feature.name,),
                        place_of(each.node),
                    )
                )
    return findings


def _through_float(
    ranker: Ranker, trace: Trace, feature: Feature, reading: list[Lookup]
) -> list[Finding]:
    """Find IDs that are floats on their way, and whether the float can hold them."""
    for lookup in reading:
        for node in nodes_between(trace, feature.name, lookup):
            kinds = [
                str(each.dtype).removeprefix("torch.") for each in tensors(node.meta.get("val"))
            ]
            exact = min((_EXACT[kind] for kind in kinds if kind in _EXACT), default=None)
            if exact is None:
                continue
            column = ranker.evaluation.flat()[feature.name]
            largest = max(int(np.nanmax(np.abs(column))), (feature.cardinality or 1) - 1)
            if feature.cardinality is None:
                largest = max(largest, lookup.rows - 1)
            lost = largest > exact
            return [
                Finding(
                    "id-lost-in-float" if lost else "float-ids",
                    f"{feature.name} holds IDs as {kinds[0]}, which tells whole numbers apart up "
                    f"to {exact:,}; the largest is {largest:,}",
                    "pass IDs as int64" if lost else "safe as long as IDs stay below that",
                    (feature.name,),
                    place_of(node) if node.op == "call_function" else place_of(lookup.node),
                )
            ]
    return []
