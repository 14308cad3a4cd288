"""Stage ``half_precision``: dense operators in fp16 or bf16, what needs float32 left there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optimize.gpu_graphs import HALF, precision_in
from optimize.option_values import require_least_one
from optimize.stages.export_onnx import MODEL
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.half.choosing import ChosenOperators
    from rankers.requests import RequestBatch

NAME = "half_precision"


@dataclass(frozen=True)
class HalfPrecision:
    """Puts products, elementwise operators and tables into 16 bits; inputs and score stay float32.

    float32 stay sums of many terms, normalizations, exponentials and logarithms, the last layer,
    and, by name, whatever float16 does not hold on calibration requests: it reaches too far, or
    underflows. Every value has one type, as strongly typed networks of TensorRT need it. For GPUs:
    on a CPU it does not pay. There the graph runs in float32, rounded to 16 bits where a GPU
    rounds, so that gates judge what a GPU computes (docs/gpu.md). It is the last stage.
    Sources: Micikevicius et al., Mixed Precision Training, arXiv:1710.03740;
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/accuracy-considerations.html
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    code: ClassVar[tuple[str, ...]] = ("half/*.py", "value_types.py", "int8/calibration.py")

    type: Literal["fp16", "bf16"] = field(
        default="fp16", metadata={"help": "fp16, or bf16: fewer digits, the range of float32"}
    )
    tables: bool = field(default=True, metadata={"help": "tables that are looked up take 16 bits"})
    ranges: Literal["calibration", "weights"] = field(
        default="calibration",
        metadata={"help": "what is checked: calibration requests too, or weights alone"},
    )
    requests: int = field(default=64, metadata={"help": "the most calibration requests used"})
    headroom: float = field(
        default=4.0, metadata={"help": "of fp16: how far beyond calibration values may reach"}
    )
    exclude: str = field(
        default="", metadata={"help": "operators to leave: names or patterns, by commas"}
    )

    def __post_init__(self) -> None:
        require_least_one(NAME, self, "requests", "headroom")

    @property
    def needs_data(self) -> bool:
        """Whether it learns from calibration requests: bf16 reaches as far as float32."""
        return self.ranges == "calibration" and self.type == "fp16"

    def run(
        self, artifact: Artifact, folder: Path, calibration: RequestBatch | None = None
    ) -> Manifest:
        """Choose and rewrite; see `optimize.stages.LearningStage.run`."""
        import onnx

        from optimize.half.writing import write_half
        from optimize.int8.layers import opened_model
        from optimize.int8.writing import large

        with opened_model(artifact) as (path, model):
            types, chosen, seen = self._choose(artifact, path, model, calibration)
            write_half(model, types, chosen.half, self.type)
            onnx.save_model(
                model,
                folder / MODEL,
                save_as_external_data=large(path),
                location=f"{MODEL}.data",
            )
        onnx.checker.check_model(str(folder / MODEL), full_check=True)
        manifest = artifact.manifest
        note = f"{NAME}: {self.type} for {chosen.describe()}; {seen}; no speed measured: for a GPU"
        return replace(
            manifest,
            model=MODEL,
            precision=precision_in(manifest.precision, self.type),
            settings={**manifest.settings, HALF: self.type},
            notes=(*manifest.notes, note),
        )

    def _choose(
        self, artifact: Artifact, path: Path, model: Any, calibration: RequestBatch | None
    ) -> tuple[dict[str, int], ChosenOperators, str]:
        from optimize.half.choosing import choose_operators
        from optimize.half.ranges import activation_ranges, weight_ranges
        from optimize.int8.calibration import calibration_inputs
        from optimize.value_types import constants_as_initializers, name_nodes, value_types

        constants_as_initializers(model)
        name_nodes(model)
        types = value_types(model)
        unknown = [x for node in model.graph.node for x in node.output if x and x not in types]
        if unknown:
            raise UserError(
                f"stage {NAME!r}: the type of {unknown[0]!r} is not known: made by a runtime's own "
                "operator; put optimize_onnx at level 'basic' before this stage, or none"
            )
        ranges = {} if self.type == "bf16" else weight_ranges(model.graph.initializer)
        seen = "ranges of weights checked" if ranges else "bf16 has the range of float32"
        if calibration is not None:
            inputs = calibration_inputs(
                artifact.manifest,
                calibration,
                inputs=[each.name for each in model.graph.input],
                limit=self.requests,
            )
            ranges |= activation_ranges(path, types, inputs)
            seen = f"ranges seen on {len(inputs)} requests"
        chosen = choose_operators(
            model,
            types,
            ranges,
            headroom=None if self.type == "bf16" else self.headroom,
            exclude=self.exclude,
            tables=self.tables,
        )
        return types, chosen, seen
