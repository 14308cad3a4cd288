"""Stage ``quantize_tables``: embedding tables in 8, 4 or 16 bits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

REPORT = "tables.json"


@dataclass(frozen=True)
class QuantizeTables:
    """Holds embedding tables in few bits; rows become floats again after they are looked up.

    int8 and int4 have a scale for each row, of one byte, so rows with outliers do not coarsen
    others. Works on any module's lookups and bags, before or after `user_once`, and exports to
    plain ONNX. It makes the artifact smaller, and large tables faster to read; a lookup has a few
    operators more, so a small ranker gets no faster (docs/quantization.md).
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = (
        "flat_graph.py",
        "samples.py",
        "lookups.py",
        "tables/**/*.py",
    )

    width: Literal["int8", "int4", "fp16", "bf16"] = field(
        default="int8", metadata={"help": "of the values: int8, int4, fp16 or bf16"}
    )
    tables: str = field(
        default="*", metadata={"help": "names of those to change, as in a shell: user*, item*"}
    )
    min_rows: int = field(
        default=256, metadata={"help": "tables of fewer rows stay: their bytes are few"}
    )

    def __post_init__(self) -> None:
        if self.min_rows < 1:
            raise UserError(
                f"stage 'quantize_tables': min_rows is {self.min_rows}; expected 1 or more"
            )

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Rewrite, or copy a program without tables; see `optimize.stages.Stage.run`."""
        from optimize.tables.program import chosen_tables, open_tables, program_of
        from optimize.tables.quantize import quantize_tables
        from optimize.tables.report import precision_with, summary
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        graph, tables = open_tables(artifact)
        left = chosen_tables(tables, self.tables, self.min_rows)
        widths = {each.name: self.width for each in tables if each.name not in left}
        reports = quantize_tables(graph, tables, widths, left)
        save_program(program_of(graph, manifest), folder / PROGRAM)
        said = {"tables": [each.to_json() for each in reports]}
        (folder / REPORT).write_text(json.dumps(said, indent=1) + "\n")
        now = [each.width for each in reports if not each.reason]
        return replace(
            manifest,
            model=PROGRAM,
            precision=precision_with(manifest.precision, now),
            notes=(*manifest.notes, f"quantize_tables: {summary(reports)}"),
        )
