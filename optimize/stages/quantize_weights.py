"""Stage ``quantize_weights``: dense layers hold 8 or 4 bits, and multiply in float32."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.stages.export_onnx import MODEL
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

NAME = "quantize_weights"


@dataclass(frozen=True)
class QuantizeWeights:
    """Makes the weights of dense layers smaller; what goes through a layer stays float32.

    Pays where layers are read from memory for few candidates, as large ones at N = 1 are, and makes
    files smaller; needs no calibration. ``blocks`` is ONNX Runtime's own MatMulNBits: 8 or 4 bits
    with a scale for each block of inputs. ``channels`` is standard ONNX, for other runtimes: int8
    with a scale an output channel, and a DequantizeLinear before the product, which ONNX Runtime's
    CPU provider runs at each call.
    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    code: ClassVar[tuple[str, ...]] = ("int8/*.py",)
    keep: ClassVar[str] = "if_better"

    form: Literal["blocks", "channels"] = field(
        default="blocks", metadata={"help": "blocks: MatMulNBits; channels: standard ONNX"}
    )
    bits: Literal[8, 4] = field(
        default=8, metadata={"help": "of a weight: 8, or 4 in the form blocks"}
    )
    block: Literal[16, 32, 64, 128, 256] = field(
        default=32, metadata={"help": "of blocks: how many weights share a scale"}
    )
    accuracy: Literal[0, 1, 4] = field(
        default=1,
        metadata={"help": "of blocks: 1 multiplies in float32, 4 makes inputs int8, 0 as it likes"},
    )
    exclude: str = field(
        default="", metadata={"help": "layers or weights to leave: names or patterns, by commas"}
    )
    keep_last: bool = field(default=True, metadata={"help": "leave the layer that makes the score"})

    def __post_init__(self) -> None:
        if self.form == "channels" and self.bits != 8:
            raise UserError(f"stage {NAME!r}: bits is {self.bits}; form 'channels' has 8 alone")

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Rewrite; see `optimize.stages.Stage.run`."""
        import onnx

        from optimize.int8.layers import choose_layers, dense_layers, opened_model
        from optimize.int8.weights import write_blocks, write_channel_codes
        from optimize.int8.writing import kept_as_it_is, large

        with opened_model(artifact) as (path, model):
            chosen = choose_layers(
                dense_layers(model), exclude=self.exclude, keep_last=self.keep_last
            )
            if not chosen.quantized:
                return kept_as_it_is(NAME, artifact, chosen, folder)
            written = model
            if self.form == "channels":
                write_channel_codes(model, chosen.quantized)
            else:
                written = write_blocks(
                    model,
                    chosen.quantized,
                    bits=self.bits,
                    block=self.block,
                    accuracy=self.accuracy,
                )
            onnx.save_model(
                written,
                folder / MODEL,
                save_as_external_data=large(path),
                location=f"{MODEL}.data",
            )
        before = artifact.model_bytes
        after = sum(each.stat().st_size for each in folder.iterdir())
        shape = (
            "a scale an output channel" if self.form == "channels" else f"blocks of {self.block}"
        )
        manifest = artifact.manifest
        requires = dict(manifest.requires)
        if self.form == "blocks":
            import onnxruntime

            requires["onnxruntime"] = onnxruntime.__version__  # which has the operator
        note = (
            f"{NAME}: weights of {chosen.describe()} to int{self.bits}, {shape}; "
            f"{before:,} bytes before, {after:,} after"
        )
        return replace(
            manifest,
            model=MODEL,
            precision=f"{manifest.precision}, weights int{self.bits}",
            requires=requires,
            notes=(*manifest.notes, note),
        )
