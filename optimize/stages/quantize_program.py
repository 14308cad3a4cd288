"""Stage ``quantize_program``: dense layers of a program read 8 bits, for Torch-TensorRT."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from rankers.requests import RequestBatch

NAME = "quantize_program"
REPORT = "quantize-program.json"


@dataclass(frozen=True)
class QuantizeProgram:
    """Rounds inputs and matrices of dense layers to int8 or fp8 in the program, by calibration.

    The program goes on multiplying floats, so it is judged and served anywhere, but gains nothing
    there; `torch_tensorrt` makes layers of 8 bits from it, and `export_onnx`, of int8, pairs of
    QuantizeLinear and DequantizeLinear. An input has one scale, an int8 matrix one for each output,
    an fp8 matrix one. Layers that went through ``quantize_aware`` keep the ranges that they learnt.
    Put it last before the stage that compiles. Not run on a GPU yet.
    Sources: Wu et al., Integer Quantization for Deep Learning Inference, arXiv:2004.09602;
    Micikevicius et al., FP8 Formats for Deep Learning, arXiv:2209.05433.
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = (
        "fake_quantization/*.py",
        "finetuning/layers.py",
        "finetuning/trainable.py",
        "finetuning/distil.py",
        "flat_graph.py",
        "int8/layers.py",
        "tables/program.py",
    )
    needs_data: ClassVar[bool] = True
    idle_ends_branch: ClassVar[bool] = True

    type: Literal["int8", "fp8"] = field(
        default="int8", metadata={"help": "fp8: e4m3, which GPUs multiply from 8.9 on"}
    )
    ranges: Literal["minmax", "percentile"] = field(
        default="minmax", metadata={"help": "how ranges are made of activations"}
    )
    percentile: float = field(
        default=99.99, metadata={"help": "of percentile ranges: what lies within, in percent"}
    )
    requests: int = field(default=128, metadata={"help": "the most calibration requests used"})
    exclude: str = field(
        default="", metadata={"help": "layers to leave: names of weights or patterns, by commas"}
    )
    keep_last: bool = field(default=True, metadata={"help": "leave the layer that makes the score"})

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise UserError(
                f"stage {NAME!r}: percentile is {self.percentile}; expected above 50, at most 100"
            )
        if self.requests < 1:
            raise UserError(f"stage {NAME!r}: requests is {self.requests}; expected 1 or more")

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Calibrate and round; see `optimize.stages.LearningStage.run`."""
        import numpy as np

        from optimize.artifact import copy_model
        from optimize.fake_quantization.placing import Placing, place
        from optimize.finetuning.distil import columns_in_parts
        from optimize.tables.program import open_program, program_of
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        if manifest.layout not in ("flat", "user_once"):
            raise UserError(f"{NAME} takes no {manifest.layout} program")
        graph = open_program(artifact)
        count = min(len(calibration), self.requests)
        chosen = np.linspace(0, len(calibration) - 1, count).round().astype(np.int64)
        placing = Placing(
            self.type, self.ranges, self.percentile, self.exclude, keep_last=self.keep_last
        )
        seen = columns_in_parts(calibration.select(chosen), manifest)
        placed = place(graph, placing, seen)
        said = f"{NAME}: {placed.describe()}"
        if not placed.inputs:
            copy_model(artifact, folder)
            return replace(manifest, notes=(*manifest.notes, f"{said}: nothing quantized"))
        save_program(program_of(graph, manifest), folder / PROGRAM)
        written = {"schema": 1, "type": self.type, "inputs": placed.inputs, "left": placed.left}
        (folder / REPORT).write_text(json.dumps(written, indent=1) + "\n")
        note = f"{said} to {self.type}; {self.ranges} ranges from {count} requests"
        if placed.learnt:
            note += f"; ranges of {placed.learnt} inputs as they were learnt"
        return replace(
            manifest,
            model=PROGRAM,
            precision=_precision(manifest.precision, self.type),
            notes=(*manifest.notes, note),
        )


def _precision(before: str, made: str) -> str:
    """Return an artifact's precision once layers read 8 bits.

    >>> _precision("fp32, tables int4", "int8")
    'int8, tables int4'
    """
    products, comma, rest = before.partition(", ")
    return (made if products in {"fp32", made} else f"{products} {made}") + comma + rest
