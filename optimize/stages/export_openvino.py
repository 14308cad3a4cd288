"""Stage ``export_openvino``: an ONNX graph becomes OpenVINO's own form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.gpu_graphs import FP8, HALF, precision_in
from optimize.instruction_sets import ISA
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

MODEL = "model.xml"  # and model.bin beside it, the weights


@dataclass(frozen=True)
class ExportOpenvino:
    """Reads the graph with OpenVINO and keeps it as ``model.xml`` and ``model.bin``.

    OpenVINO makes kernels for each shape when it first meets it, and keeps them: it gains where
    matrix products and their neighbours can be fused, and loses where every request has another
    number of candidates. The weights stay float32 in either precision; ``bf16`` is how they are
    multiplied, and needs a CPU that does so by itself. Layers that ``quantize_static`` put into
    int8 are multiplied in int8 here too.
    Source: https://docs.openvino.ai/2025/openvino-workflow/model-preparation.html
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "openvino"
    needs: ClassVar[tuple[str, ...]] = ("openvino",)
    code: ClassVar[tuple[str, ...]] = ("runtimes/openvino.py",)

    precision: Literal["fp32", "bf16"] = field(
        default="fp32", metadata={"help": "what matrix products are computed in: fp32 or bf16"}
    )

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Read and save; see `optimize.stages.Stage.run`."""
        import openvino

        if HALF in artifact.manifest.settings:
            raise UserError(
                f"stage 'export_openvino' reads graphs for CPUs; {artifact.folder} is in "
                f"{artifact.manifest.settings[HALF]}, for a GPU: leave out half_precision"
            )
        if FP8 in artifact.manifest.settings:
            raise UserError(
                f"stage 'export_openvino' reads graphs for CPUs; {artifact.folder} is in fp8, for "
                "a GPU: quantize_static without weights = 'fp8'"
            )
        # Core.read_model, not convert_model: the latter reports its use over the network.
        try:
            model = openvino.Core().read_model(artifact.model_path)
            openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
        except Exception as error:  # openvino raises plain RuntimeErrors of many lines
            raise UserError(f"OpenVINO cannot read the graph: {in_one_line(error)}") from error
        requires = {
            name: value
            for name, value in artifact.manifest.requires.items()
            if name != "onnxruntime"  # it made the graph, and runs it no more
        }
        requires["openvino"] = openvino.__version__.partition("-")[0]
        if self.precision == "bf16":
            requires[ISA] = " ".join(sorted({*requires.get(ISA, "").split(), "avx512_bf16"}))
        return replace(
            artifact.manifest,
            format="openvino",
            model=MODEL,
            precision=_precision(artifact.manifest.precision, self.precision),
            requires=requires,
            settings={},
        )


def _precision(before: str, products: str) -> str:
    """Return the precision of a graph whose float32 products are computed in ``products``."""
    return before if products == "fp32" else precision_in(before, products)
