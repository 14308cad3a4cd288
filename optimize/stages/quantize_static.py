"""Stage ``quantize_static``: dense layers in int8, their inputs' ranges learnt beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.option_values import require_least_one
from optimize.stages.export_onnx import MODEL
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.int8.form import Int8Form
    from optimize.int8.pairs import Task
    from rankers.requests import RequestBatch

NAME = "quantize_static"


@dataclass(frozen=True)
class QuantizeStatic:
    """Puts QuantizeLinear and DequantizeLinear before each layer, by ranges from calibration.

    Nothing is looked for while serving, so it beats ``quantize_dynamic`` where inputs are large and
    layers narrow; activations beyond what calibration saw are cut. Only inputs of layers are
    quantized, as is fastest on CPUs. ``placement = "tensorrt"`` follows that engine's rules, so the
    graph can become one: signed and symmetric everywhere, all 8 bits, no quantized biases, and of a
    residual sum the input that goes around the layer. With ``weights = "fp8"`` beside it both
    activations and weights are floats of 8 bits, for GPUs from compute capability 8.9. MSE ranges
    lose least by rounding and cutting together, percentile cuts rare outliers, entropy (TensorRT's
    old calibration) keeps the distribution. Layers that went through ``quantize_aware`` keep the
    ranges that they learnt. ``smooth`` balances inputs of which few channels are large with the
    layers' matrices; ``correct_bias`` takes off what rounding adds on average.
    docs/quantization-dense.md tells more.
    Sources: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html,
    Wu et al., Integer Quantization for Deep Learning Inference, arXiv:2004.09602; Xiao et al.,
    SmoothQuant, arXiv:2211.10438; Nagel et al., arXiv:1906.04721 (bias correction);
    Micikevicius et al., FP8 Formats for Deep Learning, arXiv:2209.05433.
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    code: ClassVar[tuple[str, ...]] = ("int8/*.py",)
    keep: ClassVar[str] = "if_better"
    needs_data: ClassVar[bool] = True
    made_for_cpu: ClassVar[bool] = True
    idle_ends_branch: ClassVar[bool] = True

    ranges: Literal["minmax", "mse", "percentile", "entropy"] = field(
        default="minmax", metadata={"help": "how ranges are made of activations"}
    )
    percentile: float = field(
        default=99.99, metadata={"help": "of percentile ranges: what lies within, in percent"}
    )
    activations: Literal["cpu", "uint8", "int8"] = field(
        default="cpu", metadata={"help": "cpu: what this CPU multiplies fast; int8: around zero"}
    )
    weights: Literal["int8", "int4", "fp8"] = field(
        default="int8",
        metadata={"help": "int4: half the bytes, multiplied as floats; fp8: activations too"},
    )
    placement: Literal["cpu", "tensorrt"] = field(
        default="cpu", metadata={"help": "for which machine: cpu, or tensorrt's rules for a GPU"}
    )
    requests: int = field(default=128, metadata={"help": "the most calibration requests used"})
    exclude: str = field(
        default="", metadata={"help": "layers or weights to leave: names or patterns, by commas"}
    )
    keep_last: bool = field(default=True, metadata={"help": "leave the layer that makes the score"})
    smooth: float = field(
        default=0.0,
        metadata={"help": "share of an input's spread that its matrix takes, such as 0.5; 0: none"},
    )
    correct_bias: bool = field(
        default=False, metadata={"help": "take the mean error of a layer's outputs off its bias"}
    )

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise UserError(
                f"stage {NAME!r}: percentile is {self.percentile}; expected above 50, at most 100"
            )
        if not 0 <= self.smooth <= 1:
            raise UserError(f"stage {NAME!r}: smooth is {self.smooth}; expected 0 to 1")
        trouble = self._cannot_be()
        if trouble:
            raise UserError(f"stage {NAME!r}: {trouble}")
        require_least_one(NAME, self, "requests")

    def _cannot_be(self) -> str | None:
        """Say which options do not go together; None if all do."""
        if self.weights == "fp8":
            if self.placement == "cpu":
                return "weights is 'fp8', for GPUs alone; expected placement 'tensorrt' with it"
            if self.activations != "cpu":
                return f"activations is {self.activations!r}; they are fp8 if weights are: leave it"
            if self.ranges not in {"minmax", "mse"}:
                return f"ranges is {self.ranges!r}; expected 'minmax' or 'mse' with weights 'fp8'"
        if self.placement == "tensorrt" and self.activations == "uint8":
            return "activations is 'uint8'; TensorRT takes signed ones only: leave it"
        if self.placement == "tensorrt" and self.weights == "int4":
            return (
                "weights is 'int4', which is not written by TensorRT's rules; expected 'int8' or "
                "'fp8' with placement 'tensorrt'"
            )
        return None

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Calibrate and quantize; see `optimize.stages.LearningStage.run`."""
        from optimize.int8.calibration import calibration_inputs
        from optimize.int8.cuts import learnt_ranges
        from optimize.int8.layers import choose_layers, dense_layers, opened_model
        from optimize.int8.pairs import Task
        from optimize.int8.residuals import keep_pairs_to, residual_adds
        from optimize.int8.writing import kept_as_it_is, quantized

        form = self._form()
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
            task = Task(
                path,
                model,
                chosen,
                form,
                inputs,
                learnt_ranges(model, chosen.quantized),
                adds,
                tensorrt=self.placement == "tensorrt",
            )
            said = [f"{self.ranges} ranges from {len(inputs)} requests"]
            if task.learnt:
                said.insert(0, f"ranges of {len(task.learnt)} inputs as they were learnt")
            if self.smooth:
                said.append(self._smooth(task))
            said += self._quantize(task, folder / MODEL)
            if task.tensorrt and form.activations != "fp8":
                keep_pairs_to(folder / MODEL, [each.name for each in chosen.quantized], adds)
            if task.learnt or self.correct_bias:
                said += self._mend(task, folder / MODEL)
        return quantized(NAME, artifact, chosen, form, "".join(f"; {each}" for each in said))

    def _form(self) -> Int8Form:
        from optimize.int8.form import TENSORRT, TENSORRT_FP8, form_here

        if self.weights == "fp8":
            return TENSORRT_FP8
        form = TENSORRT if self.placement == "tensorrt" else form_here()
        if self.activations != "cpu":
            form = replace(form, activations=self.activations)
        if self.weights == "int4":
            form = replace(form, seven_bits=False, isa=None, four_bits=True)
        return form

    def _smooth(self, task: Task) -> str:
        """Balance the inputs that learnt no ranges, in the graph and its file; say what was."""
        import onnx

        from optimize.int8.smoothing import smooth_layers
        from optimize.int8.writing import large

        reads = {each.name: each.input[0] for each in task.model.graph.node}
        layers = [each for each in task.chosen.quantized if reads[each.name] not in task.learnt]
        beside = large(task.path)
        smoothed = smooth_layers(task.model, layers, task.inputs, self.smooth, large=beside)
        onnx.save_model(
            task.model, task.path, save_as_external_data=beside, location=f"smoothed-{MODEL}.data"
        )
        return smoothed.describe()

    def _quantize(self, task: Task, target: Path) -> list[str]:
        """Write the graph with pairs; say what ranges were searched."""
        from optimize.int8.fp8_pairs import write_fp8_pairs
        from optimize.int8.mse import described, mse_ranges, seen_ends
        from optimize.int8.numbers import Numbers
        from optimize.int8.pairs import write_pairs
        from optimize.int8.writing import large

        numbers, beside = Numbers(task.form.activations), large(task.path)
        given, said = dict(task.learnt), []
        if self.ranges == "mse":
            searched = mse_ranges(
                task.model, task.activations(), task.inputs, numbers, large=beside
            )
            given |= {name: (each.low, each.high) for name, each in searched.items()}
            said.append(described(searched))
        elif numbers.type == "fp8":
            given |= seen_ends(
                task.model, task.activations(), task.inputs, symmetric=True, large=beside
            )
        if numbers.type == "fp8":
            write_fp8_pairs(task, target, given)
        else:
            calibrate = "minmax" if self.ranges == "mse" else self.ranges
            write_pairs(task, target, calibrate=calibrate, percentile=self.percentile, ranges=given)
        return said

    def _mend(self, task: Task, target: Path) -> list[str]:
        """Take out cuts that ranges stand for now, and correct biases; say what was corrected."""
        import onnx

        from optimize.int8.bias import correct_biases
        from optimize.int8.cuts import drop_cuts
        from optimize.int8.writing import large

        beside = large(task.path)
        made = onnx.load(target)
        count = 0
        if self.correct_bias:
            layers = task.chosen.quantized
            count = correct_biases(made, task.model, layers, task.inputs, large=beside)
        drop_cuts(made, task.cuts_of_pairs())
        for each in target.parent.glob(f"{MODEL}*"):
            each.unlink()
        onnx.save_model(made, target, save_as_external_data=beside, location=f"{MODEL}.data")
        return [f"biases of {count} layers corrected"] if count else []
