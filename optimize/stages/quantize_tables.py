"""Stage ``quantize_tables``: embedding tables in 8, 4 or 16 bits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from optimize.option_values import require_least_one
from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from optimize.artifact import Artifact, Manifest
    from optimize.flat_graph import FlatGraph
    from optimize.tables.program import Table
    from optimize.tables.quantize import Width
    from optimize.tables.widths import Choice

REPORT = "tables.json"
# On how many drawn requests, of one candidate each, widths are compared.
_SAMPLE_ROWS = 1024
_WIDTHS = ("int8", "int4", "fp16", "bf16")
_KEPT = "kept by the choice of widths"


@dataclass(frozen=True)
class QuantizeTables:
    """Holds embedding tables in few bits; rows become floats again after they are looked up.

    int8 and int4 have a scale for each row, of one byte, so rows with outliers do not coarsen
    others. Works on any module's lookups and bags, before or after `user_once`, and exports to
    plain ONNX. It makes the artifact smaller; a lookup has six to twelve small operators more, so
    it is not meant to make a ranker faster (docs/quantization.md).
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = (
        "flat_graph.py",
        "partial.py",
        "samples.py",
        "lookups.py",
        "tables/**/*.py",
    )

    width: Literal["int8", "int4", "fp16", "bf16", "auto"] = field(
        default="int8",
        metadata={"help": "of the values: int8, int4, fp16, bf16; auto: each table's own"},
    )
    tables: str = field(
        default="*", metadata={"help": "names of those to change, as in a shell: user*, item*"}
    )
    widths: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "of single tables, by name; all others stay: { user = 'int4' }"},
    )
    min_rows: int = field(
        default=256, metadata={"help": "tables of fewer rows stay: their bytes are few"}
    )

    max_bytes_ratio: float = field(
        default=0.0, metadata={"help": "of auto: tables take this share of their bytes at most"}
    )
    max_score_change: float = field(
        default=0.0,
        metadata={"help": "of auto: or a score changes by this share of the scores' spread"},
    )
    counts: str = field(
        default="",
        metadata={"help": "of auto: file of how often training met each ID (seen.safetensors)"},
    )

    def __post_init__(self) -> None:
        require_least_one("quantize_tables", self, "min_rows")
        self._check_widths()
        budgets = {name: getattr(self, name) for name in ("max_bytes_ratio", "max_score_change")}
        for name, value in budgets.items():
            if not 0 <= value < 1:
                raise UserError(
                    f"stage 'quantize_tables': {name} is {value}; expected a share from 0 to 1"
                )
        given = [name for name, value in budgets.items() if value]
        if self.width == "auto" and len(given) != 1:
            raise UserError(
                "stage 'quantize_tables': width is 'auto'; give either max_bytes_ratio or "
                f"max_score_change, not {' and '.join(given) or 'neither'}"
            )
        if self.width != "auto" and (given or self.counts):
            raise UserError(
                f"stage 'quantize_tables': {(given or ['counts'])[0]} goes with width = 'auto'; "
                f"width is {self.width!r}"
            )

    def _check_widths(self) -> None:
        for name, width in self.widths.items():
            if width not in _WIDTHS:
                raise UserError(
                    f"stage 'quantize_tables': widths has {width!r} for table {name!r}; "
                    f"{nearest(str(width), _WIDTHS)}"
                )
        if self.widths and (self.width, self.tables) != ("int8", "*"):
            raise UserError(
                "stage 'quantize_tables': widths names the tables and their widths: give neither "
                "width nor tables beside it"
            )

    @property
    def reads(self) -> tuple[Path, ...]:
        """Files whose content decides the result."""
        return (Path(self.counts),) if self.counts else ()

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Rewrite, or copy a program without tables; see `optimize.stages.Stage.run`."""
        from optimize.tables.counts import read_counts
        from optimize.tables.program import chosen_tables, open_tables, program_of
        from optimize.tables.quantize import quantize_tables
        from optimize.tables.report import precision_with, summary
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        counts = read_counts(self.counts, manifest.signature) if self.counts else {}
        graph, tables = open_tables(artifact, counts)
        # Tables that are named one by one are meant, however few rows they have.
        patterns, min_rows = (
            (",".join(self.widths), 1) if self.widths else (self.tables, self.min_rows)
        )
        left = chosen_tables(tables, patterns, min_rows)
        said: dict[str, Any] = {}
        notes = []
        if self.width == "auto":
            choice = self._choose(graph, tables, left)
            widths = choice.widths
            left |= {x.name: _KEPT for x in tables if x.name not in widths | left}
            said["choice"] = choice.to_json()
            notes = [f"quantize_tables: {choice}"]
        else:
            free = [each.name for each in tables if each.name not in left]
            asked = {name: self.widths.get(name, self.width) for name in free}
            widths = cast("dict[str, Width]", asked)
        reports = quantize_tables(graph, tables, widths, left)
        save_program(program_of(graph, manifest), folder / PROGRAM)
        said["tables"] = [each.to_json() for each in reports]
        (folder / REPORT).write_text(json.dumps(said, indent=1) + "\n")
        now = [each.width for each in reports if not each.reason]
        return replace(
            manifest,
            model=PROGRAM,
            precision=precision_with(manifest.precision, now),
            notes=(*manifest.notes, f"quantize_tables: {summary(reports)}", *notes),
        )

    def _choose(self, graph: FlatGraph, tables: list[Table], left: dict[str, str]) -> Choice:
        from optimize.tables.widths import choose_widths

        return choose_widths(
            graph,
            tables,
            left,
            graph.sample(_SAMPLE_ROWS),
            max_bytes_ratio=self.max_bytes_ratio,
            max_score_change=self.max_score_change,
        )
