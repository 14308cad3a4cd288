"""Checkpoints: a trained zoo ranker as a folder, with nothing in it that would be unpickled.

::

    DIR/
      ranker.json               what it is, how it was trained, and the SHA-256 of the others
      model.safetensors         its weights
      evaluation.safetensors    the labelled requests that were held out
      calibration.safetensors   a sample of the training requests, if there is one
      seen.safetensors          how often training met each ID, where that was counted
      files/                    what makes IDs out of raw values, such as tokenizer.json, if any
"""

from __future__ import annotations

import hashlib
import importlib
import json
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError, nearest
from rankers.features import Signature
from rankers.files import new_folder
from rankers.ranker import FILES, Ranker
from rankers.requests import load_requests, save_requests
from rankers.seen import load_counts, save_counts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DESCRIPTION = "ranker.json"
WEIGHTS = "model.safetensors"
EVALUATION = "evaluation.safetensors"
CALIBRATION = "calibration.safetensors"
SEEN = "seen.safetensors"
SCHEMA = 1


def save_checkpoint(
    folder: Path,
    ranker: Ranker,
    options: dict[str, Any],
    training: dict[str, Any],
    *,
    replace: bool = False,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Write a zoo ranker; the folder appears when it is whole.

    Args:
        folder: Where it is to appear. One that is there stays as it is, unless ``replace``.
        ranker: Whose ``name`` is a name in the zoo.
        options: The keyword arguments its module was made with.
        training: How it was trained and what came out, JSON-ready.
        replace: Whether a folder that is there makes way.
        beside: Further files, by name: their text.
    """
    from safetensors.torch import save_file

    with new_folder(folder, replace=replace) as aside:
        state = {name: x.contiguous() for name, x in ranker.module.state_dict().items()}
        save_file(state, aside / WEIGHTS)
        save_requests(ranker.evaluation, aside / EVALUATION)
        written = [WEIGHTS, EVALUATION]
        if ranker.calibration is not None:
            save_requests(ranker.calibration, aside / CALIBRATION)
            written.append(CALIBRATION)
        if ranker.seen:
            save_counts(ranker.seen, aside / SEEN)
            written.append(SEEN)
        for name, text in (beside or {}).items():
            (aside / name).write_text(text)
            written.append(name)
        ranker.write_files(aside)
        written += [f"{FILES}/{name}" for name in ranker.files]
        data = {
            "schema": SCHEMA,
            "name": ranker.name,
            "options": options,
            "signature": ranker.signature.to_json(),
            "training": training,
            "files": {name: _sha256(aside / name) for name in written},
        }
        data["sha256"] = _fingerprint(data)
        (aside / DESCRIPTION).write_text(json.dumps(data, indent=2, allow_nan=False) + "\n")


def load_checkpoint(folder: Path) -> Ranker:
    """Load what `save_checkpoint` wrote, comparing every checksum first.

    Raises:
        UserError: There is no checkpoint, a file is missing or changed (the message names it), or
            the zoo does not know the ranker.
    """
    from safetensors.torch import load_file

    from rankers.zoo.catalogue import ZOO

    data = describe_checkpoint(folder)
    for name, expected in data["files"].items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file}: missing from the checkpoint: train it again")
        if _sha256(file) != expected:
            raise UserError(
                f"{file}: its SHA-256 is not the one in {DESCRIPTION}: the file was changed or "
                "damaged; train it again"
            )
    if data["name"] not in ZOO:
        raise UserError(f"{folder}: unknown ranker {data['name']!r}; {nearest(data['name'], ZOO)}")
    module = importlib.import_module(ZOO[data["name"]].module).build(**data["options"])
    module.load_state_dict(load_file(folder / WEIGHTS))
    return Ranker(
        name=data["name"],
        module=module.eval(),
        signature=Signature.from_json(data["signature"]),
        evaluation=load_requests(folder / EVALUATION),
        seen=load_counts(folder / SEEN) if SEEN in data["files"] else None,
        calibration=(load_requests(folder / CALIBRATION) if CALIBRATION in data["files"] else None),
        files={
            name.removeprefix(f"{FILES}/"): (folder / name).read_bytes()
            for name in data["files"]
            if name.startswith(f"{FILES}/")
        },
    )


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself, without reading its weights.

    Raises:
        UserError: There is no checkpoint, its description is damaged, or a newer rankserve's.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(f"{folder}: no checkpoint here ({DESCRIPTION} is missing)")
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
        stated = data.pop("sha256")
        damaged = stated != _fingerprint(data)
        schema = data["schema"]
    except (ValueError, KeyError, TypeError, AttributeError):
        damaged, schema = True, SCHEMA
    if damaged:
        raise UserError(f"{path}: the description was changed or damaged: train the ranker again")
    if schema != SCHEMA:
        raise UserError(f"{path}: schema {schema}; this rankserve reads {SCHEMA}: upgrade it")
    return data


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(data: dict[str, Any]) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
