"""Stage ``quantize_static``: dense layers in int8, their inputs' ranges learnt beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optimize.stages.export_onnx import MODEL
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.int8.form import Int8Form
    from rankers.requests import Columns, RequestBatch

NAME = "quantize_static"


@dataclass(frozen=True)
class QuantizeStatic:
    """Puts QuantizeLinear and DequantizeLinear before each layer, by ranges from calibration.

    Nothing is looked for while serving, so it beats ``quantize_dynamic`` where inputs are large and
    layers narrow; activations beyond what calibration saw are cut. Only inputs of layers are
    quantized, as is fastest on CPUs. ``placement = "tensorrt"`` follows that engine's rules, so the
    graph can become one: signed and symmetric everywhere, all 8 bits, no quantized biases, and of a
    residual sum the input that goes around the layer. Percentile cuts rare outliers, entropy
    (TensorRT's old calibration) keeps the distribution. docs/quantization-dense.md tells more.
    Sources: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html,
    Wu et al., Integer Quantization for Deep Learning Inference, arXiv:2004.09602.
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    code: ClassVar[tuple[str, ...]] = ("int8/*.py",)
    keep: ClassVar[str] = "if_better"
    needs_data: ClassVar[bool] = True
    made_for_cpu: ClassVar[bool] = True

    ranges: Literal["minmax", "percentile", "entropy"] = field(
        default="minmax", metadata={"help": "how ranges are made of activations"}
    )
    percentile: float = field(
        default=99.99, metadata={"help": "of percentile ranges: what lies within, in percent"}
    )
    activations: Literal["cpu", "uint8", "int8"] = field(
        default="cpu", metadata={"help": "cpu: what this CPU multiplies fast; int8: for TensorRT"}
    )
    placement: Literal["cpu", "tensorrt"] = field(
        default="cpu", metadata={"help": "for which machine: cpu, or tensorrt's rules for a GPU"}
    )
    requests: int = field(default=128, metadata={"help": "the most calibration requests used"})
    exclude: str = field(
        default="", metadata={"help": "layers or weights to leave: names or patterns, by commas"}
    )
    keep_last: bool = field(default=True, metadata={"help": "leave the layer that makes the score"})

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise UserError(
                f"stage {NAME!r}: percentile is {self.percentile}; expected above 50, at most 100"
            )
        if self.placement == "tensorrt" and self.activations == "uint8":
            raise UserError(
                f"stage {NAME!r}: activations is 'uint8'; TensorRT takes signed ones only: leave it"
            )
        if self.requests < 1:
            raise UserError(f"stage {NAME!r}: requests is {self.requests}; expected 1 or more")

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Calibrate and quantize; see `optimize.stages.LearningStage.run`."""
        from optimize.int8.calibration import calibration_inputs
        from optimize.int8.form import TENSORRT, form_here
        from optimize.int8.layers import choose_layers, dense_layers, opened_model
        from optimize.int8.residuals import keep_pairs_to, residual_adds
        from optimize.int8.writing import kept_as_it_is, quantized

        form = TENSORRT if self.placement == "tensorrt" else form_here()
        if self.activations != "cpu":
            form = replace(form, activations=self.activations)
        with opened_model(artifact) as (path, model):
            chosen = choose_layers(
                dense_layers(model), exclude=self.exclude, keep_last=self.keep_last
            )
            if not chosen.quantized:
                return kept_as_it_is(NAME, artifact, chosen, folder)
            inputs = calibration_inputs(
                artifact.manifest,
                calibration,
                inputs=[each.name for each in model.graph.input],
                limit=self.requests,
            )
            adds = residual_adds(model, chosen.quantized) if self.placement == "tensorrt" else ()
            names = [*(each.name for each in chosen.quantized), *(each.name for each in adds)]
            self._quantize(path, folder / MODEL, names, inputs, form)
            if self.placement == "tensorrt":
                keep_pairs_to(folder / MODEL, [each.name for each in chosen.quantized], adds)
        learnt = f"; {self.ranges} ranges from {len(inputs)} requests"
        return quantized(NAME, artifact, chosen, form, learnt)

    def _quantize(
        self,
        source: Path,
        target: Path,
        names: list[str],
        inputs: Sequence[Columns],
        form: Int8Form,
    ) -> None:
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        from optimize.int8.calibration import AT_ONCE, calibration_reader
        from optimize.int8.writing import large

        kinds = ["MatMul", "Gemm"]
        if self.placement == "tensorrt":
            kinds.append("Add")  # only those that are named
        extra: dict[str, Any] = {
            "OpTypesToExcludeOutputQuantization": kinds,
            "QuantizeBias": self.placement == "cpu",
            "ActivationSymmetric": form.activations == "int8",
            "CalibPercentile": self.percentile,
            # In parts, or all activations of all requests would be held at once.
            "CalibStridedMinMax": min(AT_ONCE, len(inputs)),
        }
        quantize_static(
            source,
            target,
            calibration_reader(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=kinds,
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=form.seven_bits,
            activation_type=QuantType.QInt8 if form.activations == "int8" else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method={
                "minmax": CalibrationMethod.MinMax,
                "percentile": CalibrationMethod.Percentile,
                "entropy": CalibrationMethod.Entropy,
            }[self.ranges],
            use_external_data_format=large(source),
            extra_options=extra,
        )
