"""Optimization profiles: for which numbers of users and candidates an engine is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.tensorrt.preflight import Finding
from rankers.errors import UserError
from rankers.requests import ITEM_TO_REQUEST

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Manifest

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """The least, the usual and the most of something; the engine is tuned for the usual."""

    least: int
    usual: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.usual <= self.most:
            raise UserError(
                f"a profile of {self.least},{self.usual},{self.most}; expected least, usual and "
                "most, from 1 up, each no smaller than the one before"
            )

    @property
    def all(self) -> tuple[int, int, int]:
        """The three in order."""
        return (self.least, self.usual, self.most)


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes an engine takes.

    Attributes:
        shapes: For each of the graph's inputs the least, the usual and the largest shape.
    """

    shapes: dict[str, tuple[Shape, Shape, Shape]]


def make_profile(
    manifest: Manifest, path: Path, candidates: Span, requests: Span
) -> tuple[Profile, tuple[Finding, ...]]:
    """Make the profile of a graph, and hold it against the graph's own inputs.

    Args:
        manifest: Of the artifact; it knows the features' shapes and sides.
        path: The graph.
        candidates: Of one request.
        requests: Joined into one run.

    Raises:
        UserError: The artifact's layout has no rows of users and candidates.
    """
    import onnx

    if manifest.layout not in {"flat", "user_once"}:
        raise UserError(
            f"a profile is made for flat and user-once graphs; this one is {manifest.layout!r}"
        )
    rows = Span(*(x * y for x, y in zip(candidates.all, requests.all, strict=True)))
    features = {each.name: each for each in manifest.signature.features}
    shapes: dict[str, tuple[Shape, Shape, Shape]] = {}
    findings = []
    for given in onnx.load(path, load_external_data=False).graph.input:
        if given.name == ITEM_TO_REQUEST:
            inner: Shape = ()
            count = rows
        elif given.name in features:
            feature = features[given.name]
            inner = tuple(feature.shape)
            of_user = feature.side == "user" and manifest.layout == "user_once"
            count = requests if of_user else rows
        else:
            findings.append(Finding(given.name, "", "an input that is no feature of the ranker"))
            continue
        least, usual, most = count.all
        shapes[given.name] = ((least, *inner), (usual, *inner), (most, *inner))
        findings += [Finding(given.name, "", x) for x in _differences(given, count, inner)]
    return Profile(shapes), tuple(findings)


def _differences(given: Any, count: Span, inner: Shape) -> list[str]:
    """Say where a graph's input does not take what the signature and the profile say."""
    dims = [each.dim_value or None for each in given.type.tensor_type.shape.dim]
    if len(dims) != 1 + len(inner):
        return [f"has {len(dims)} dimensions; the signature says {1 + len(inner)}"]
    found = []
    if dims[0] is not None and count.all != (dims[0],) * 3:
        found.append(f"has {dims[0]} rows, fixed; the profile wants {count.least} to {count.most}")
    found += [
        f"dimension {place} is {have}; the signature says {want}"
        for place, (have, want) in enumerate(zip(dims[1:], inner, strict=True), start=1)
        if have is not None and have != want
    ]
    return found
