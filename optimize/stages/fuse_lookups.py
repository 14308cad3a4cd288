"""Stage ``fuse_lookups``: lookups, bags and dots of a program in one kernel of our own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

REPORT = "fused.json"


@dataclass(frozen=True)
class FuseLookups:
    """Lets one kernel do what a GPU is given dozens of small ones for: all lookups of one width.

    Tables, of floats or in the codes of `quantize_tables`, are stacked into one buffer; the kernel
    looks rows up, makes them floats and sums bags, and takes dots of the vectors where a DLRM does.
    The program holds it as an operator of torch, whose twin in plain torch runs on the CPU. What
    could not be fused is in the notes, with why. Put it after user_once and quantize_tables, and
    before cuda_graphs.
    Source: docs/gpu.md; the operation is DLRM's, arXiv:1906.00091.
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    code: ClassVar[tuple[str, ...]] = (
        "flat_graph.py",
        "samples.py",
        "lookups.py",
        "fusing/**/*.py",
        "kernels/**/*.py",
        "tables/**/*.py",
    )
    idle_ends_branch: ClassVar[bool] = True

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Rewrite, or copy a program with nothing to fuse; see `optimize.stages.Stage.run`."""
        import torch

        from optimize.artifact import copy_model
        from optimize.fusing.write import fuse_lookups
        from optimize.tables.program import open_program, program_of
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        if manifest.layout not in ("flat", "user_once"):
            raise UserError(f"fuse_lookups takes no {manifest.layout} program")
        graph = open_program(artifact)
        columns = graph.sample(_COMPARED)
        expected = graph.score(columns)
        fused = fuse_lookups(graph, users_once=manifest.layout == "user_once")
        notes = (*manifest.notes, f"fuse_lookups: {fused}")
        if not fused.kernels:
            copy_model(artifact, folder)
            return replace(manifest, notes=notes)
        moved = float((graph.score(columns) - expected).abs().max())
        if not moved <= _MOVED * max(1.0, float(expected.abs().max())):
            raise UserError(
                f"fuse_lookups moved scores by {moved:.2g}: please report it, with the ranker"
            )
        with torch.no_grad():
            save_program(program_of(graph, manifest), folder / PROGRAM)
        said = {"schema": 1, "kernels": fused.kernels, "left": fused.left}
        (folder / REPORT).write_text(json.dumps(said, indent=1) + "\n")
        return replace(manifest, model=PROGRAM, notes=notes)


_COMPARED = 64  # rows on which the program is compared with what it was
_MOVED = 1e-4  # sums of another order; the gates judge it
