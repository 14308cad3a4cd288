"""What Torch-TensorRT's dynamo frontend is told, as data; the stage ``torch_tensorrt`` tells it.

The names are those of ``torch_tensorrt.dynamo.compile`` in 2.11, 2.13 and 2.14, where each was
looked up. 2.11 builds by TensorRT 10.15, 2.13 by 11.0, 2.14 by 11.1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rankers.errors import UserError

Precision = Literal["fp32", "fp16", "bf16"]
# From here on TensorRT 11 builds, whose networks are strongly typed without being told.
_STRONGLY_TYPED = (2, 13)


@dataclass(frozen=True, slots=True)
class TorchBuildOptions:
    """How a program is compiled.

    Attributes:
        precision: Of matrix products; the program is written so, and types are the program's.
        tf32: Whether float32 products may be computed in TF32.
        version_compatible: Later versions of TensorRT run it.
        ampere_plus: Every GPU from Ampere on runs it.
        level: From 0, a fast build, to 5.
        whole: Whether an operator that TensorRT lacks is an error; else torch runs it.
        least_block: The fewest operators that are worth an engine of their own.
    """

    precision: Precision = "fp16"
    tf32: bool = False
    version_compatible: bool = False
    ampere_plus: bool = False
    level: int = 3
    whole: bool = False
    least_block: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 5:
            raise UserError(f"level is {self.level}; TensorRT has 0 to 5")
        if self.least_block < 1:
            raise UserError(f"least_block is {self.least_block}; expected 1 or more")

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON-ready data."""
        return asdict(self)


def compile_options(
    options: TorchBuildOptions, version: str, *, timing_cache: str
) -> dict[str, Any]:
    """Return the keywords of ``torch_tensorrt.dynamo.compile``.

    None is about types: every value has the program's. Its autocast, in all three versions, narrows
    whatever an operator reads, the IDs of lookups among it, which no lookup takes.

    Args:
        options: How it is compiled.
        version: Of Torch-TensorRT.
        timing_cache: The file of timings that all builds share.

    Raises:
        UserError: The version is older than 2.11.
    """
    release = tuple(int(part) for part in version.partition("+")[0].split(".")[:2])
    if release < (2, 11):
        raise UserError(f"torch-tensorrt {version} is installed; 2.11 or later is needed")
    found: dict[str, Any] = {
        "disable_tf32": not options.tf32,
        "version_compatible": options.version_compatible,
        "hardware_compatible": options.ampere_plus,
        "optimization_level": options.level,
        "require_full_compilation": options.whole,
        "min_block_size": options.least_block,
        "timing_cache_path": timing_cache,
        "truncate_double": False,
    }
    if release < _STRONGLY_TYPED:
        found["use_explicit_typing"] = True
    return found
