"""Stage ``factor_tables``: embedding tables as products of smaller ones, with a fine-tuning."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optimize.option_values import require_least_one, require_share

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.finetuning.settings import DistilReport, DistilSettings
    from optimize.flat_graph import FlatGraph
    from optimize.tables.factor import Factored
    from rankers.requests import RequestBatch

NAME = "factor_tables"
REPORT = "factored-tables.json"


@dataclass(frozen=True)
class FactorTables:
    """Makes tables products of smaller ones until they take so many of their bytes.

    ``low_rank``: rows of fewer columns, and a matrix that makes them as wide as they were, after
    the sum where they are summed. ``quotient_remainder``: rows put together from two small tables,
    by an ID's quotient and remainder. Which table loses how much is chosen over all of them, by
    what calibration requests read; then what is new, and dense layers, are fine-tuned. Rows of
    padding stay exactly. Put it before `quantize_tables`; before or after `user_once`.
    docs/quantization.md tells more.
    Source: Shi et al., Compositional Embeddings Using Complementary Partitions, KDD 2020.
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
        "finetuning/*.py",
        "pruning/*.py",
    )
    needs_data: ClassVar[bool] = True

    method: Literal["low_rank", "quotient_remainder"] = field(
        default="low_rank",
        metadata={"help": "low_rank: fewer columns; quotient_remainder: rows made of two"},
    )
    share: float = field(
        default=0.5, metadata={"help": "of the tables' bytes that they may take together"}
    )
    tables: str = field(
        default="*", metadata={"help": "names of those to change, as in a shell: user*, item*"}
    )
    min_rows: int = field(
        default=256, metadata={"help": "tables of fewer rows stay: their bytes are few"}
    )
    steps: int = field(default=100, metadata={"help": "of fine-tuning by distillation; 0 for none"})
    learning_rate: float = field(default=3e-4, metadata={"help": "of the fine-tuning"})
    labels_weight: float = field(
        default=0.0, metadata={"help": "of a loss on labels, beside 1 for the original's scores"}
    )
    requests: int = field(default=256, metadata={"help": "the most calibration requests used"})
    seed: int = field(default=0, metadata={"help": "of the fine-tuning"})

    def __post_init__(self) -> None:
        require_share(NAME, self, "share")
        require_least_one(NAME, self, "min_rows", "requests")
        self.tuning()

    def tuning(self) -> DistilSettings:
        """Return how it is fine-tuned."""
        from optimize.finetuning.settings import DistilSettings

        return DistilSettings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            labels_weight=self.labels_weight,
            seed=self.seed,
        )

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Rewrite, or copy a program without tables; see `optimize.stages.LearningStage.run`."""
        from optimize.pruning.sample import evenly_drawn
        from optimize.tables.factor import factor_tables
        from optimize.tables.program import chosen_tables, open_tables, program_of
        from optimize.tables.reads import table_reads
        from optimize.tables.report import factor_summary
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        drawn = evenly_drawn(calibration, self.requests)
        graph, tables = open_tables(artifact)
        left = chosen_tables(tables, self.tables, self.min_rows)
        free = [each for each in tables if each.name not in left]
        reads = table_reads(graph, free, drawn, manifest)
        found = factor_tables(
            graph,
            tables,
            reads,
            left,
            method=self.method,
            share=self.share,
            signature=manifest.signature,
        )
        tuned = self._tune(artifact, graph, found, drawn)
        save_program(program_of(graph, manifest), folder / PROGRAM)
        said: dict[str, Any] = {
            "method": self.method,
            "share": self.share,
            "requests": len(drawn),
            "tables": [
                each.to_json() | {"read_rows": reads[name].read_rows if name in reads else None}
                for each in found
                for name in [each.report.name]
            ],
            "fine_tuning": [each.to_json() for each in tuned],
        }
        (folder / REPORT).write_text(json.dumps(said, indent=1) + "\n")
        notes = [f"{NAME}: {factor_summary([x.report for x in found], self.method)}"]
        notes += [f"{NAME}: {each.describe()}" for each in tuned]
        return replace(manifest, model=PROGRAM, notes=(*manifest.notes, *notes))

    def _tune(
        self,
        artifact: Artifact,
        graph: FlatGraph,
        found: list[Factored],
        drawn: RequestBatch,
    ) -> list[DistilReport]:
        """Fine-tune what is new and the dense layers; other tables stay."""
        from optimize.finetuning.distil import distil
        from optimize.finetuning.trainable import table_names, trainable_module
        from optimize.pruning.prune import plain_answers
        from optimize.torch_program import load_program

        learns = {name for each in found for name in each.learns}
        if not self.steps or not learns:
            return []
        others = table_names(graph.module) - learns
        settings = replace(self.tuning(), train_tables=True, frozen=tuple(sorted(others)))
        teacher = trainable_module(load_program(artifact.model_path))
        with plain_answers(graph) as student:
            return [distil(student, teacher, drawn, artifact.manifest, settings)]
