"""Stage ``prune_neurons``: hidden neurons of dense layers are cut out, to a budget."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from optimize.option_values import names_in, require_least_one, require_share

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.finetuning.settings import DistilSettings
    from rankers.requests import RequestBatch

NAME = "prune_neurons"
REPORT = "pruning.json"


@dataclass(frozen=True)
class PruneNeurons:
    """Takes whole neurons, and heads of attention, out until so many multiply-adds are left.

    Of any module: which neurons go together is found in its graph. Those go that move scores least
    for what they save, over all layers at once; what stays stands in for them by least squares, and
    a few steps of distillation from the original may follow. Tables, interactions, residual streams
    through layer norms, and the score stay. Put it before `user_once`, so that all weights can be
    fine-tuned; it works after it too. docs/pruning.md tells more.
    Sources: Hassibi and Stork, Optimal Brain Surgeon, NIPS 1992; Hinton et al., arXiv:1503.02531.
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = (
        "flat_graph.py",
        "samples.py",
        "tables/program.py",
        "finetuning/*.py",
        "pruning/*.py",
    )
    needs_data: ClassVar[bool] = True

    budget: float = field(
        default=0.5, metadata={"help": "share of the dense layers' multiply-adds that may stay"}
    )
    multiple: int = field(default=8, metadata={"help": "widths are whole multiples of it"})
    min_width: int = field(default=8, metadata={"help": "the narrowest a layer gets"})
    rounds: int = field(
        default=4, metadata={"help": "in how many rounds; neurons are weighed anew in each"}
    )
    steps: int = field(
        default=0, metadata={"help": "of fine-tuning by distillation, over all rounds; 0 for none"}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "of the fine-tuning"})
    labels_weight: float = field(
        default=0.0, metadata={"help": "of a loss on labels, beside 1 for the original's scores"}
    )
    requests: int = field(default=256, metadata={"help": "the most calibration requests used"})
    exclude: str = field(
        default="", metadata={"help": "layers whose neurons stay: names or patterns, by commas"}
    )
    keep_last: bool = field(
        default=False, metadata={"help": "leave what the layer that makes the score reads"}
    )
    low_rank: bool = field(
        default=False,
        metadata={"help": "layers whose outputs have to stay may become two of a lower rank"},
    )
    heads: bool = field(default=True, metadata={"help": "whole heads of attention may go too"})
    tune_each: bool = field(
        default=False, metadata={"help": "share the steps out to the rounds; else all come last"}
    )
    seed: int = field(default=0, metadata={"help": "of the fine-tuning"})

    def __post_init__(self) -> None:
        require_share(NAME, self, "budget")
        require_least_one(NAME, self, "multiple", "min_width", "rounds", "requests")
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
        """Prune; see `optimize.stages.LearningStage.run`."""
        from optimize.pruning.prune import PruneSettings, prune
        from optimize.pruning.report import summary
        from optimize.pruning.sample import evenly_drawn
        from optimize.tables.program import program_of
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        settings = PruneSettings(
            budget=self.budget,
            rounds=self.rounds,
            multiple=self.multiple,
            min_width=self.min_width,
            exclude=names_in(self.exclude),
            keep_last=self.keep_last,
            low_rank=self.low_rank,
            heads=self.heads,
            tune_each=self.tune_each,
        )
        drawn = evenly_drawn(calibration, self.requests)
        graph, pruned = prune(artifact, drawn, settings, self.tuning())
        save_program(program_of(graph, manifest), folder / PROGRAM)
        said = {
            "budget": self.budget,
            "requests": len(drawn),
            "layers": [each.to_json() for each in pruned.layers],
            "attention": [each.to_json() for each in pruned.attention],
            "fine_tuning": [each.to_json() for each in pruned.tuned],
        }
        (folder / REPORT).write_text(json.dumps(said, indent=1) + "\n")
        notes = [
            f"{NAME}: {summary(pruned.layers, pruned.attention)}; learnt from {len(drawn)} requests"
        ]
        notes += [f"{NAME}: {each.describe()}" for each in pruned.tuned]
        return replace(manifest, model=PROGRAM, notes=(*manifest.notes, *notes))
