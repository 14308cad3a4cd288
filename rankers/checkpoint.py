"""Checkpoints: a trained ranker as a folder without code or pickles.

::

    DIR/
      ranker.json               which class of the zoo, how it was made and trained, checksums
      model.safetensors         its weights
      evaluation.safetensors    the requests held out of training
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError, nearest
from rankers.features import Signature
from rankers.ranker import Ranker
from rankers.requests import load_requests, save_requests
from rankers.zoo import ZOO

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

CARD = "ranker.json"
WEIGHTS = "model.safetensors"
EVALUATION = "evaluation.safetensors"
SCHEMA = 1


def make_module(zoo_name: str, arguments: dict[str, Any]) -> nn.Module:
    """Make an untrained module of the zoo.

    Raises:
        UserError: The zoo has no such ranker.
    """
    import importlib

    if zoo_name not in ZOO:
        raise UserError(f"no ranker {zoo_name!r} in the zoo; {nearest(zoo_name, ZOO)}")
    module, _, attribute = ZOO[zoo_name].partition(":")
    made: nn.Module = getattr(importlib.import_module(module), attribute)(**arguments)
    return made


def save_checkpoint(
    folder: Path, ranker: Ranker, *, arguments: dict[str, Any], training: dict[str, Any]
) -> None:
    """Write a ranker of the zoo into an empty folder.

    Args:
        folder: The caller puts it in place.
        ranker: Its ``name`` is that of the zoo.
        arguments: What its class was made with, as JSON-ready data.
        training: How it was trained and what came of it, as JSON-ready data.
    """
    from safetensors.torch import save_file

    state = {name: x.detach().contiguous() for name, x in ranker.module.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    save_requests(ranker.evaluation, folder / EVALUATION)
    card = {
        "schema": SCHEMA,
        "ranker": ranker.name,
        "arguments": arguments,
        "signature": ranker.signature.to_json(),
        "training": training,
        "files": {name: _sha256(folder / name) for name in (WEIGHTS, EVALUATION)},
    }
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")


def read_card(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself, after comparing its checksums.

    Raises:
        UserError: It is no checkpoint, of another version, or a file was changed.
    """
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_bytes())
        schema, files = card["schema"], dict(card["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not a ranker's checkpoint ({CARD}: {error})") from error
    if schema != SCHEMA:
        raise UserError(f"{folder}: schema {schema}; this rankserve reads {SCHEMA}: train it again")
    for name, expected in files.items():
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            raise UserError(
                f"{folder / name}: missing, or its SHA-256 is not the one in {CARD}: the file was "
                "changed or damaged; train the ranker again"
            )
    return card


def load_checkpoint(folder: Path) -> Ranker:
    """Load a trained ranker.

    Raises:
        UserError: It is no checkpoint, a file was changed, or its weights do not fit its class.
    """
    from safetensors.torch import load_file

    card = read_card(folder)
    module = make_module(card["ranker"], card["arguments"])
    try:
        module.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise UserError(
            f"{folder / WEIGHTS}: does not fit {card['ranker']}: {error}: train it again"
        ) from error
    return Ranker(
        name=card["ranker"],
        module=module.eval(),
        signature=Signature.from_json(card["signature"]),
        evaluation=load_requests(folder / EVALUATION),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
