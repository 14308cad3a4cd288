"""Variants from what runs left on disk; nothing is measured here.

Of a run without branches: what it ended in, what it dropped or what failed, and what those were
measured against. Of one with branches: each branch. And the original, once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optimize.artifact import EVIDENCE, open_artifact
from optimize.capture import EVALUATION
from optimize.capture import STAGE as CAPTURE
from optimize.gain import Gain
from optimize.measuring import EAGER
from optimize.run import MEASUREMENTS, RUN_FILE, RUN_SCHEMA
from optimize.variants.variant import ORIGINAL, State, Variant
from rankers.errors import UserError
from rankers.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from optimize.artifact import Artifact

_METRIC_KEYS = {"reference", "delta", "low", "high"}
_SAME = 1e-9  # two originals' AUC on the same requests


def read_variants(paths: Sequence[Path]) -> list[Variant]:
    """Read all variants of a ranker.

    Args:
        paths: Folders of runs or of artifacts.

    Returns:
        The original first, if a run is among them. Names have the folder's before them where there
        are several folders.

    Raises:
        UserError: A folder is neither, or they are not of one ranker.
    """
    found: list[Variant] = []
    seen: dict[str, str] = {}
    for path in paths:
        own, known = _read(path)
        _check_same_ranker(path, known, seen)
        if len(paths) > 1:
            own = [
                each if each.name == ORIGINAL else replace(each, name=_prefixed(path, each.name))
                for each in own
            ]
        for each in own:
            found = _with(found, each)
    _check_same_originals(found)
    return found


def _with(found: list[Variant], variant: Variant) -> list[Variant]:
    """Add a variant; the original, which every run has, takes over what is on record of it."""
    for place, each in enumerate(found):
        if each.name == variant.name == ORIGINAL:
            p50_ms, void = {**variant.p50_ms, **each.p50_ms}, {**variant.void, **each.void}
            quality = {**variant.quality, **each.quality}
            joined = replace(each, p50_ms=p50_ms, void=void, quality=quality)
            return [*found[:place], joined, *found[place + 1 :]]
    count = sum(each.name.partition(" #")[0] == variant.name for each in found)
    return [*found, replace(variant, name=f"{variant.name} #{count + 1}") if count else variant]


def _read(path: Path) -> tuple[list[Variant], dict[str, str]]:
    """Return a folder's variants, and what tells its ranker from others."""
    if not (path / RUN_FILE).is_file():
        artifact = open_artifact(path)
        state: State = "passed" if artifact.passed else "failed"
        if not artifact.manifest.verdicts:
            state = "not gated"
        return [_variant(path.name, artifact, state)], _ranker_of(artifact)
    try:
        run = json.loads((path / RUN_FILE).read_bytes())
        if run["schema"] != RUN_SCHEMA:
            raise UserError(f"{path / RUN_FILE}: schema {run['schema']}; expected {RUN_SCHEMA}")
        artifacts = {
            each["artifact"]: open_artifact(path / each["artifact"]) for each in run["stages"]
        }
        captured = next(x for x in run["stages"] if x["stage"] == CAPTURE)
        original = artifacts[captured["artifact"]]
        own = [*(_of_branches(path, run) if "branches" in run else _of_stages(run, artifacts))]
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise UserError(f"{path / RUN_FILE}: not a rankserve run: {error!r}") from error
    first = _variant(ORIGINAL, original, "passed")
    recorded = [*_measured(path, [first, *own])]
    return recorded, _ranker_of(original)


def _of_stages(run: dict[str, Any], artifacts: dict[str, Artifact]) -> Iterator[Variant]:
    """Yield the end of a run, and what was weighed on the way."""
    by_key = {each.key: path for path, each in artifacts.items()}
    stages = run["stages"]
    shown: dict[str, Variant] = {}
    p50s: dict[str, dict[str, float]] = {}
    for each in stages:
        if each["gain"] is not None:
            source = by_key[artifacts[each["artifact"]].manifest.lineage[-1].source]
            gain = Gain.from_json(each["gain"])
            for speed in gain.speeds:
                load = f"{speed.candidates} candidates, as a stage was weighed"
                p50s.setdefault(each["artifact"], {})[load] = speed.p50_ms
                p50s.setdefault(source, {}).setdefault(load, speed.before_p50_ms)
    last = stages[-1]["artifact"]
    for each in stages:
        path, name = each["artifact"], each["stage"]
        weighed = path in p50s or each["dropped"] or not each["passed"]
        if name == CAPTURE or not (weighed or path in {run["chosen"], last}):
            continue
        state: State = "kept" if path == run["chosen"] else "passed"
        reason = each["dropped"]
        if not each["passed"]:
            state, reason = "failed", _why(artifacts[path])
        elif each["dropped"]:
            state = "dropped"
        made = _variant(name, artifacts[path], state, reason)
        shown[path] = replace(made, p50_ms=p50s.get(path, {}))
    yield from shown.values()


def _of_branches(path: Path, run: dict[str, Any]) -> Iterator[Variant]:
    """Yield each branch, whether or not it got as far as an artifact."""
    for each in run["branches"]:
        state: State = "kept" if each["end"] == "kept" else "passed"
        if each["artifact"] is None:
            yield Variant(each["name"], None, "failed", f"{each['end']}: {each['reason']}")
        else:
            made = open_artifact(path / each["artifact"])
            yield _variant(each["name"], made, state, each["reason"])


def _measured(path: Path, variants: Sequence[Variant]) -> Iterator[Variant]:
    """Give variants the p50s that a run with branches measured."""
    from bench.compare import Comparison
    from bench.results_file import load_results
    from bench.tables import load_text

    found = load_results(path / MEASUREMENTS).found if (path / MEASUREMENTS).is_file() else None
    runs = found.measurements if isinstance(found, Comparison) else ()
    named = {ORIGINAL if each.name == EAGER else each.name: each for each in runs}
    for each in variants:
        run = named.get(each.name)
        if run is None or not run.response.count:
            yield each
            continue
        load = load_text(run)
        p50 = run.response.point_us(0.5) / 1e3
        void = {load: run.void[0]} if run.void else {}
        yield replace(each, p50_ms={**each.p50_ms, load: p50}, void={**each.void, **void})


def _variant(name: str, artifact: Artifact, state: State, reason: str = "") -> Variant:
    numbers = {
        metric: found
        for verdict in artifact.manifest.verdicts
        if verdict.gate == "quality"
        for metric, found in verdict.numbers.items()
        if isinstance(found, dict) and found.keys() >= _METRIC_KEYS
    }
    return Variant(
        name=name,
        folder=artifact.folder,
        state=state,
        reason=reason,
        model_bytes=artifact.model_bytes,
        quality={
            metric: Interval(
                x["delta"],
                float("-inf") if x["low"] is None else x["low"],
                float("inf") if x["high"] is None else x["high"],
            )
            for metric, x in numbers.items()
        },
        reference={metric: x["reference"] for metric, x in numbers.items()},
    )


def _why(artifact: Artifact) -> str:
    failed = [each for each in artifact.manifest.verdicts if not each.passed]
    return f"{failed[0].gate}: {failed[0].reason}" if failed else "no gate has looked at it"


def _ranker_of(artifact: Artifact) -> dict[str, str]:
    manifest = artifact.manifest
    known = {"name": manifest.name, "signature": json.dumps(manifest.signature.to_json())}
    evaluation = manifest.files.get(f"{EVIDENCE}/{EVALUATION}")
    return known if evaluation is None else known | {"evaluation requests": evaluation}


def _check_same_ranker(path: Path, known: dict[str, str], seen: dict[str, str]) -> None:
    for what, value in known.items():
        before = seen.setdefault(what, value)
        if before != value:
            raise UserError(
                f"{path} is of a ranker with another {what} than the folders before it"
                + (f": {value!r}, not {before!r}" if what == "name" else "")
                + "; variants of one ranker can be compared"
            )


def _check_same_originals(variants: Sequence[Variant]) -> None:
    """Check that all changes are from one original: on the same requests it is worth as much."""
    first: dict[str, tuple[str, float]] = {}
    for each in variants:
        for metric, value in each.reference.items():
            name, before = first.setdefault(metric, (each.name, value))
            if abs(value - before) > _SAME:
                raise UserError(
                    f"{each.name} was judged against an original of {metric} {value:.6f}, {name} "
                    f"against one of {before:.6f}: compare variants of one original"
                )


def _prefixed(path: Path, name: str) -> str:
    own = path.resolve().name
    return own if name == path.name else f"{own}: {name}"


def ranker_name(path: Path) -> str:
    """Return the name of the ranker of a run or an artifact that could be read."""
    if not (path / RUN_FILE).is_file():
        return open_artifact(path).manifest.name
    first = json.loads((path / RUN_FILE).read_bytes())["stages"][0]
    return open_artifact(path / first["artifact"]).manifest.name
