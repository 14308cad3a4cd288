"""Stage ``lookups``: embedding bags without loops, and many tables with one gather."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

# Rows of the sample that is traced: a number no shape in a ranker is likely to have by itself.
_SAMPLE_ROWS = 11


@dataclass(frozen=True)
class Lookups:
    """Rewrites `nn.EmbeddingBag` into a gather, a mask and a sum, and can join tables.

    A bag would become a loop over bags in ONNX, many times slower, and refused by TensorRT. Joined
    tables save operators, which counts on a GPU; ONNX Runtime on a CPU gains nothing by it
    (docs/user-once.md), so it has to be asked for.
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
        from optimize.flat_graph import export_module, flat_graph
        from optimize.lookups import join_tables, unfold_bags
        from optimize.samples import sample_tensors
        from optimize.torch_program import PROGRAM, load_program, save_program

        manifest = artifact.manifest
        signature = manifest.signature
        program = load_program(artifact.model_path)
        names = [each.name for each in signature.features]
        sample = sample_tensors(signature)
        graph = flat_graph(program, names, [each.name for each in signature.user], sample)
        done = unfold_bags(graph)
        if self.tables == "joined":
            done += join_tables(graph)
        if done:
            columns = sample(_SAMPLE_ROWS)
            program = export_module(graph.module, columns, dict.fromkeys(names, "rows"))
        save_program(program, folder / PROGRAM)
        notes = tuple(f"lookups: {each}" for each in done)
        return replace(manifest, model=PROGRAM, notes=(*manifest.notes, *notes))
