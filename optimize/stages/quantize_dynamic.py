"""Stage ``quantize_dynamic``: dense layers in int8, their inputs' ranges taken anew each time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from optimize.stages.export_onnx import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

NAME = "quantize_dynamic"


@dataclass(frozen=True)
class QuantizeDynamic:
    """Multiplies by 8-bit weights: a scale an output channel, one an input, taken as it comes.

    Needs no calibration requests, and is the surer of the two: no range is guessed. It pays where
    layers are wide and candidates many, and costs a pass over each input to find its range. Tables
    and products of two activations stay as they are. It stands after ``export_onnx`` and before
    ``optimize_onnx``, which fuses what it leaves. docs/quantization-dense.md tells more.
    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    code: ClassVar[tuple[str, ...]] = ("int8/*.py",)
    keep: ClassVar[str] = "if_better"
    made_for_cpu: ClassVar[bool] = True
    idle_ends_branch: ClassVar[bool] = True

    exclude: str = field(
        default="", metadata={"help": "layers or weights to leave: names or patterns, by commas"}
    )
    keep_last: bool = field(default=True, metadata={"help": "leave the layer that makes the score"})

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Quantize; see `optimize.stages.Stage.run`."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        from optimize.int8.form import form_here
        from optimize.int8.layers import choose_layers, dense_layers, opened_model
        from optimize.int8.writing import kept_as_it_is, large, names_as_matmul, quantized

        # DynamicQuantizeLinear makes unsigned bytes on every CPU.
        form = replace(form_here(), activations="uint8")
        with opened_model(artifact) as (path, model):
            chosen = choose_layers(
                dense_layers(model), exclude=self.exclude, keep_last=self.keep_last
            )
            if not chosen.quantized:
                return kept_as_it_is(NAME, artifact, chosen, folder)
            quantize_dynamic(
                path,
                folder / MODEL,
                op_types_to_quantize=["MatMul"],  # the library makes one of each Gemm first
                nodes_to_quantize=names_as_matmul(chosen.quantized),
                per_channel=True,
                reduce_range=form.seven_bits,
                weight_type=QuantType.QInt8,
                use_external_data_format=large(path),
            )
        return quantized(NAME, artifact, chosen, form)
