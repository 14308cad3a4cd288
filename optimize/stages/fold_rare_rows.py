"""Stage ``fold_rare_rows``: rows of tables that training hardly met share one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from optimize.option_values import require_least_one
from rankers.errors import UserError

if TYPE_CHECKING:
    from optimize.artifact import Artifact, Manifest

REPORT = "folded-tables.json"


@dataclass(frozen=True)
class FoldRareRows:
    """Prunes tables: rows met fewer than ``min_count`` times in training become their mean.

    Most IDs of a long tail were met once or never, and their rows are noise. They share one row,
    the mean weighted by counts; a small table says where each ID's row is. Put it before
    `quantize_tables`, before or after `user_once`. Rows of padding stay. Scores of rare IDs
    change, so look at the slices `rare` and `cold` of `rankers evaluate` too.
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

    counts: str = field(
        default="",
        metadata={
            "help": "file of how often training met each ID: a checkpoint's seen.safetensors"
        },
    )
    min_count: int = field(
        default=2, metadata={"help": "a row that stays its own was met so often"}
    )
    tables: str = field(
        default="*", metadata={"help": "names of those to change, as in a shell: user*, item*"}
    )
    min_rows: int = field(
        default=256, metadata={"help": "tables of fewer rows stay: their bytes are few"}
    )

    def __post_init__(self) -> None:
        if not self.counts:
            raise UserError(
                "stage 'fold_rare_rows': counts is missing; give the file that says how often "
                "training met each ID, such as a checkpoint's seen.safetensors"
            )
        require_least_one("fold_rare_rows", self, "min_count", "min_rows")

    @property
    def reads(self) -> tuple[Path, ...]:
        """Files whose content decides the result."""
        return (Path(self.counts),)

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Rewrite, or copy a program with nothing to fold; see `optimize.stages.Stage.run`."""
        from optimize.tables.counts import read_counts
        from optimize.tables.fold import fold_rare_rows
        from optimize.tables.program import chosen_tables, open_tables, program_of
        from optimize.tables.report import fold_summary
        from optimize.tables.traffic import traffic_of
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        counts = read_counts(self.counts, manifest.signature)
        graph, tables = open_tables(artifact)
        left = chosen_tables(tables, self.tables, self.min_rows)
        traffic = {
            each.name: traffic_of(graph, each, manifest.signature, counts)
            for each in tables
            if each.name not in left
        }
        reports = fold_rare_rows(graph, tables, traffic, left, self.min_count)
        save_program(program_of(graph, manifest), folder / PROGRAM)
        said = [
            each.to_json() | {"counted": list(of.features), "uncounted": list(of.uncounted)}
            if (of := traffic.get(each.name))
            else each.to_json()
            for each in reports
        ]
        (folder / REPORT).write_text(json.dumps({"tables": said}, indent=1) + "\n")
        notes = [f"fold_rare_rows: {fold_summary(reports)}"]
        notes += [
            f"fold_rare_rows: {each.name} is read by {', '.join(traffic[each.name].uncounted)} "
            f"too, whose IDs are not counted"
            for each in reports
            if not each.reason and traffic[each.name].uncounted
        ]
        return replace(manifest, model=PROGRAM, notes=(*manifest.notes, *notes))
