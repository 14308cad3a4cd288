"""torch.export programs on disk, read without running a pickle.

``torch.export.load`` falls back to full unpickling for weights, constants or sample inputs that are
marked so. An artifact is data, so a program that would need it is refused before torch sees it.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

from optimize.artifact import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from torch.export import ExportedProgram

PROGRAM = "model.pt2"
_TENSOR_FILES = ("tensor_", "weight_")  # every other prefix is a pickled or a custom object


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a program as a ``.pt2`` archive."""
    import torch

    torch.export.save(program, path)


def load_program(path: Path) -> ExportedProgram:
    """Read a ``.pt2`` archive that holds nothing but plain tensors and a graph.

    Raises:
        ArtifactError: It is damaged, or loading it would run a pickle.
    """
    import torch

    import optimize.fake_quantization.operator
    import optimize.kernels.operators  # noqa: F401 - a program may hold them

    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                refusal = _refuse(entry.filename, archive.read(entry))
                if refusal:
                    raise ArtifactError(f"{path}: {refusal}; it will not be loaded")
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise ArtifactError(f"{path}: not a readable torch.export program: {error}") from error
    return torch.export.load(path)


def program_on(program: ExportedProgram, device: str) -> ExportedProgram:
    """Move a program to a device, in place: its weights, and what its operators make there.

    An exported program makes its ranges and zeros on the device that it was exported on.
    """
    if device == "cpu":
        return program
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(program, device)


def _refuse(name: str, content: bytes) -> str | None:
    """Say why an archive's member must not be loaded, or None."""
    import torch

    folder, _, file = name.rpartition("/")
    if folder.endswith("sample_inputs"):
        try:
            torch.load(io.BytesIO(content), weights_only=True)
        except Exception:  # noqa: BLE001 - whatever is wrong, torch would go on to unpickle it
            return f"{name} holds more than tensors"
    if file.endswith("_config.json") and folder.endswith(("weights", "constants")):
        entries: dict[str, Any] = json.loads(content).get("config", {})
        for key, entry in entries.items():
            plain = str(entry.get("path_name", "")).startswith(_TENSOR_FILES)
            if entry.get("use_pickle") or not plain:
                return f"{key!r} in {name} is stored as a pickle"
    return None
