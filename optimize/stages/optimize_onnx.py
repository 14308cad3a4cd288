"""Stage ``optimize_onnx``: ONNX Runtime's graph optimization, done once and kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.gpu_graphs import FP8
from optimize.instruction_sets import ISA, instruction_sets
from optimize.onnx_attention import rewrite_attention
from optimize.onnx_rows import layers_as_rows
from optimize.stages.export_onnx import MODEL
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest


@dataclass(frozen=True)
class OptimizeOnnx:
    """Folds constants, removes redundant nodes and fuses operators ahead of time.

    ONNX Runtime would do the same each time a session opens. Doing it here makes servers start
    sooner and lets the gates judge the very graph that will run. ``extended`` is portable between
    CPUs; ``all`` adds layouts made for the instruction set at hand, which the manifest then
    requires of any machine that opens the artifact. From ``extended`` on, attention and layers
    over sequences are rewritten first, as ONNX Runtime computes them faster on a CPU.
    Source: https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")
    code: ClassVar[tuple[str, ...]] = ("onnx_attention.py", "onnx_rows.py")

    level: Literal["basic", "extended", "all"] = field(
        default="extended", metadata={"help": "how far to go: basic, extended or all"}
    )

    @property
    def made_for_cpu(self) -> bool:
        """Whether the graph is laid out for the CPU at hand."""
        return self.level == "all"

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Optimize offline; see `optimize.stages.Stage.run`."""
        import onnxruntime

        if FP8 in artifact.manifest.settings:
            raise UserError(
                f"stage 'optimize_onnx' reads no graph in fp8, which {artifact.folder} is: put it "
                "before quantize_static"
            )
        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = {
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[self.level]
        options.optimized_model_filepath = str(folder / MODEL)
        options.log_severity_level = 3
        if len(artifact.manifest.files) > 1:
            # Weights beyond protobuf's 2 GB lie beside the graph, and must again.
            key = "session.optimized_model_external_initializers_file_name"
            options.add_session_config_entry(key, f"{MODEL}.data")
        source: Path | bytes = artifact.model_path
        if self.level != "basic":
            source = rewritten(artifact.model_path)
            # Where weights beside the graph are looked for, if it comes as bytes.
            key = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(key, str(artifact.model_path.parent))
        try:
            onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has many kinds of its own
            raise UserError(f"ONNX Runtime cannot optimize the graph: {error}") from error
        requires = dict(artifact.manifest.requires)
        # The offline graph may hold operators of ONNX Runtime's own, which older ones lack.
        requires["onnxruntime"] = onnxruntime.__version__
        if self.level == "all":
            requires[ISA] = " ".join(instruction_sets())
        return replace(artifact.manifest, model=MODEL, requires=requires)


def rewritten(path: Path) -> Path | bytes:
    """Return a graph in bytes with what ONNX Runtime computes slowly rewritten, or its path.

    Weights beside the graph stay there.

    Args:
        path: The graph; returned if there is nothing to rewrite.
    """
    from onnxscript import ir
    from onnxscript.ir.passes.common import ShapeInferencePass

    model = ir.load(path)
    # A graph that broadcasts one user states no shapes.
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    changed = rewrite_attention(model) + layers_as_rows(model)
    return ir.to_proto(model).SerializeToString() if changed else path
