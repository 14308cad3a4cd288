"""Stage ``lookups``: embedding bags without loops, and many tables with one gather."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest


@dataclass(frozen=True)
class Lookups:
    """Rewrites `nn.EmbeddingBag` into a gather, a mask and a sum, and can join tables.

    A bag would become a loop over bags in ONNX, many times slower, and refused by TensorRT; the
    stages `export_onnx` and `user_once` rewrite bags by themselves. Joined tables save operators,
    which counts on a GPU; ONNX Runtime on a CPU gains nothing by it (docs/user-once.md), so it has
    to be asked for.
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = ("flat_graph.py", "samples.py", "lookups.py")

    tables: Literal["apart", "joined"] = field(
        default="apart",
        metadata={"help": "joined: tables of one width and side are read with one gather"},
    )

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Rewrite, or copy a program that has nothing to rewrite; see `optimize.stages.Stage`."""
        from optimize.lookups import rewrite_lookups
        from optimize.torch_program import PROGRAM, load_program, save_program

        manifest = artifact.manifest
        if manifest.layout != "flat":
            raise UserError(f"{artifact.folder}: has the layout {manifest.layout!r}; put it first")
        program = load_program(artifact.model_path)
        join = self.tables == "joined"
        program, done = rewrite_lookups(program, manifest.signature, join=join)
        save_program(program, folder / PROGRAM)
        notes = tuple(f"lookups: {each}" for each in done)
        return replace(manifest, model=PROGRAM, notes=(*manifest.notes, *notes))
