"""Stage ``tensorrt_operators``: what TensorRT lacks, by operators that it has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from optimize.artifact import copy_model
from optimize.stages.export_onnx import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

NAME = "tensorrt_operators"


@dataclass(frozen=True)
class TensorrtOperators:
    """Rewrites Clip and CumSum of whole numbers, which TensorRT takes of floats only.

    Rankers over sequences count places by them. Scores stay the same. What else TensorRT would
    refuse, ``optimize preflight`` names. It stands before the stages that change types.
    Source: https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx",)
    code: ClassVar[tuple[str, ...]] = ("tensorrt/rewriting.py", "value_types.py")

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Rewrite, or copy a graph that has none; see `optimize.stages.Stage.run`."""
        import onnx

        from optimize.tensorrt.rewriting import rewrite_operators

        manifest = artifact.manifest
        copy_model(artifact, folder)
        path = folder / manifest.model
        model = onnx.load(path, load_external_data=False)
        rewritten = rewrite_operators(model)
        if not rewritten:
            return manifest
        path.unlink()
        onnx.save(model, folder / MODEL)  # weights beside it stay as they are
        note = f"{NAME}: {', '.join(rewritten)} by operators that TensorRT takes"
        return replace(manifest, model=MODEL, notes=(*manifest.notes, note))
