"""Which ONNX operators TensorRT takes, and in which types: the table operators.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "operators.toml"


@dataclass(frozen=True, slots=True)
class Operators:
    """NVIDIA's support matrix.

    Attributes:
        version: Of TensorRT that it is of.
        opset: The oldest and the newest operator set.
        types: For each operator the types, as ``onnx.TensorProto.DataType`` names them.
    """

    version: str
    opset: tuple[int, int]
    types: dict[str, frozenset[str]]


@cache
def operators() -> Operators:
    """Read the table."""
    data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    types = {
        name: frozenset(group["types"])
        for group in data["groups"].values()
        for name in group["operators"].split()
    }
    oldest, newest = data["opset"]
    return Operators(data["tensorrt"], (oldest, newest), types)
