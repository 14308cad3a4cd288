"""Artifacts: immutable folders that hold a model in one format and say all about it.

::

    DIR/
      manifest.json     what the artifact is, with the SHA-256 of every other file
      model.onnx        the model (its name is the format's own), and its external data if any
      files/            what makes IDs out of raw values, such as tokenizer.json, if any

Nothing is loaded before its checksum was compared, and nothing in an artifact is a pickle that
would be run.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from optimize.checksums import file_sha256, fingerprint
from optimize.verdicts import Verdict
from rankers.errors import UserError
from rankers.features import Signature
from rankers.files import write_atomically
from rankers.ranker import FILES
from rankers.requests import ITEM_TO_REQUEST, Columns, RankingRequest, RequestBatch

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
EVIDENCE = "evidence"
SCHEMA = 1

Layout = Literal["flat", "user_once", "user_state", "wire"]
# The layouts that take each user once.
_USER_ONCE = {"user_once", "user_state"}


class ArtifactError(UserError):
    """An artifact is missing, damaged or not of the kind asked for."""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of an artifact's lineage: a stage, and how it was run.

    Attributes:
        stage: The stage's name.
        options: Its options.
        source: The key of the artifact it read; empty for the first.
        versions: Of the libraries it used.
        seconds: How long it ran.
    """

    stage: str
    options: dict[str, Any]
    source: str
    versions: dict[str, str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself.

    Attributes:
        name: The ranker's name.
        format: Such as ``torch`` (a torch.export program) or ``onnx``; runtimes are chosen by it.
        model: The file a runtime opens.
        signature: The features and the score.
        layout: ``flat``: every input has one row for each (user, candidate) pair. ``user_once``:
            the user's inputs have one row for each request, the items' one for each candidate, and
            ``item_to_request`` says whose each is. ``user_state``: the same in two graphs, so that
            what was computed for a user can be kept (optimize/user_state). ``wire``: the inputs are
            the packed tensors of a request (rankers/wire.py), as a server gets them.
        precision: Such as ``fp32``.
        files: SHA-256 of every file but the manifest, by its path in the folder.
        requires: What it needs to run, by name: minimal runtime versions, instruction sets.
        settings: How its runtime opens it, by name, where that is not as by default.
        score_map: The increasing function of the score that a stage put in on purpose
            (`optimize.score_map`); empty if none did.
        lineage: The stages it came through, first to last.
        verdicts: What the gates decided; empty if none looked yet.
        notes: What a stage has to say to a person, a line each.
    """

    name: str
    format: str
    model: str
    signature: Signature
    layout: Layout = "flat"
    precision: str = "fp32"
    files: dict[str, str] = field(default_factory=dict)
    requires: dict[str, str] = field(default_factory=dict)
    lineage: tuple[Step, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    score_map: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what the model takes, in order, in a layout of columns."""
        names = tuple(feature.name for feature in self.signature.features)
        return (*names, ITEM_TO_REQUEST) if self.layout in _USER_ONCE else names

    def columns_of(self, requests: RankingRequest | RequestBatch) -> Columns:
        """Return requests as the model's `inputs`, by name.

        Raises:
            ArtifactError: The model takes wire tensors, not columns.
        """
        if self.layout == "wire":
            raise ArtifactError(
                f"{self.name!r} was deployed for Triton's ONNX Runtime backend and takes its wire "
                "tensors: open the artifact that it was deployed from"
            )
        return requests.joined() if self.layout in _USER_ONCE else requests.flat()

    @property
    def key(self) -> str:
        """A fingerprint of the content alone: files, signature and what it takes to run them."""
        names = ("name", "format", "model", "layout", "precision", "files", "requires")
        content = {name: getattr(self, name) for name in names}
        if self.settings:
            content["settings"] = self.settings
        if self.score_map:
            content["score_map"] = self.score_map
        return fingerprint(content | {"signature": self.signature.to_json()})

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON-ready data, with a checksum of itself."""
        data = {
            "schema": SCHEMA,
            "name": self.name,
            "format": self.format,
            "model": self.model,
            "signature": self.signature.to_json(),
            "layout": self.layout,
            "precision": self.precision,
            "files": dict(sorted(self.files.items())),
            "requires": self.requires,
            "lineage": [each.to_json() for each in self.lineage],
            "verdicts": [each.to_json() for each in self.verdicts],
            "notes": list(self.notes),
        }
        if self.settings:
            data["settings"] = self.settings
        if self.score_map:
            data["score_map"] = self.score_map
        return data | {"sha256": fingerprint(data)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        """Read what `to_json` wrote, without checking its checksum."""
        return cls(
            name=data["name"],
            format=data["format"],
            model=data["model"],
            signature=Signature.from_json(data["signature"]),
            layout=data["layout"],
            precision=data["precision"],
            files=dict(data["files"]),
            requires=dict(data["requires"]),
            lineage=tuple(Step(**each) for each in data["lineage"]),
            verdicts=tuple(Verdict(**each) for each in data["verdicts"]),
            notes=tuple(data.get("notes", ())),
            settings=dict(data.get("settings", {})),
            score_map=dict(data.get("score_map", {})),
        )


@dataclass(frozen=True, slots=True)
class Artifact:
    """A folder and its manifest. Open one with `open_artifact`, make one with `seal`."""

    folder: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        """The file a runtime opens."""
        return self.folder / self.manifest.model

    @property
    def model_bytes(self) -> int:
        """The size of the model's files: no manifest, evidence or tokenizer among them."""
        others = (f"{EVIDENCE}/", f"{FILES}/")
        names = [name for name in self.manifest.files if not name.startswith(others)]
        return sum((self.folder / name).stat().st_size for name in names)

    @property
    def key(self) -> str:
        """A fingerprint of what it holds, whenever, wherever and from whatever it was made."""
        return self.manifest.key

    @property
    def passed(self) -> bool:
        """Whether gates looked at it and all let it pass."""
        verdicts = self.manifest.verdicts
        return bool(verdicts) and all(each.passed for each in verdicts)


def copy_model(artifact: Artifact, folder: Path) -> None:
    """Copy an artifact's files into ``folder``, for a stage that leaves the model as it is."""
    for name in artifact.manifest.files:
        if not name.startswith((f"{EVIDENCE}/", f"{FILES}/")):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.folder / name, target)


def seal(folder: Path, manifest: Manifest) -> Artifact:
    """Make a folder of model files an artifact: checksum every file and write the manifest."""
    names = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    )
    sealed = replace(manifest, files={name: file_sha256(folder / name) for name in names})
    write_atomically(folder / MANIFEST, json.dumps(sealed.to_json(), indent=2) + "\n")
    return Artifact(folder, sealed)


def seal_with_verdicts(
    artifact: Artifact,
    verdicts: tuple[Verdict, ...],
    folder: Path,
    *,
    notes: tuple[str, ...] | None = None,
) -> Artifact:
    """Make the same artifact with verdicts in ``folder``, sharing its files on disk if possible.

    Args:
        artifact: What the gates looked at.
        verdicts: What they decided.
        folder: An empty folder.
        notes: In place of those it has; None keeps them.
    """
    for name in artifact.manifest.files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(artifact.folder / name, target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(artifact.folder / name, target)
    kept = artifact.manifest.notes if notes is None else notes
    judged = replace(artifact.manifest, verdicts=verdicts, notes=kept)
    write_atomically(folder / MANIFEST, json.dumps(judged.to_json(), indent=2) + "\n")
    return Artifact(folder, judged)


def open_artifact(folder: Path) -> Artifact:
    """Open an artifact, comparing every checksum first.

    Raises:
        ArtifactError: There is none, a file is missing or changed (the message names it), or it was
            written by a newer rankserve.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder}: no artifact here ({MANIFEST} is missing)")
    try:
        data = json.loads(path.read_bytes())
        stated = data.pop("sha256")
        damaged = stated != fingerprint(data)
        schema = data["schema"]
    except (ValueError, KeyError, TypeError, AttributeError):
        damaged, schema = True, SCHEMA
    if damaged:
        raise ArtifactError(f"{path}: the manifest was changed or damaged: make the artifact again")
    if schema != SCHEMA:
        raise ArtifactError(f"{path}: schema {schema}; this rankserve reads {SCHEMA}: upgrade it")
    manifest = Manifest.from_json(data)
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise ArtifactError(f"{file}: missing from the artifact: make it again")
        if file_sha256(file) != expected:
            raise ArtifactError(
                f"{file}: its SHA-256 is not the manifest's: the file was changed or damaged; "
                "make the artifact again"
            )
    return Artifact(folder, manifest)
