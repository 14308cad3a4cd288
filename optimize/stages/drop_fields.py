"""Stage ``drop_fields``: features that a ranker can do without are no longer asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from optimize.option_values import names_in, require_least_one
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.finetuning.settings import DistilReport, DistilSettings
    from optimize.flat_graph import FlatGraph
    from rankers.requests import RequestBatch

NAME = "drop_fields"
REPORT = "fields.json"


@dataclass(frozen=True)
class DropFields:
    """Drops features that are worth least: from the request, and their tables from the model.

    What each is worth is found by permuting it on the ranker's calibration requests: by the AUC
    that it costs where they have labels, else by how far scores move. In its place stands a
    constant, the one that scores mind least. Say what goes by ``names``, ``fields`` or
    ``max_auc_loss``; with ``steps`` dense layers learn to score as before without it. Put it before
    `user_once` and `lookups`; scores change, so the recipe's gates have to allow for it.
    docs/fields.md tells more.
    Sources: Breiman, Random Forests, 2001; Fisher, Rudin and Dominici, arXiv:1801.01489.
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = (
        "flat_graph.py",
        "partial.py",
        "samples.py",
        "fields/*.py",
        "finetuning/*.py",
        "pruning/prune.py",
        "tables/program.py",
    )
    needs_data: ClassVar[bool] = True
    keep: ClassVar[str] = "if_passed"

    names: str = field(default="", metadata={"help": "features that go, with commas between"})
    fields: int = field(default=0, metadata={"help": "how many features may stay"})
    max_auc_loss: float = field(
        default=0.0, metadata={"help": "what the AUC may lose on the calibration requests"}
    )
    requests: int = field(default=256, metadata={"help": "the most calibration requests used"})
    repeats: int = field(default=2, metadata={"help": "permutations of each that are averaged"})
    steps: int = field(
        default=0, metadata={"help": "of fine-tuning by distillation, with what stands there"}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "of the fine-tuning"})
    seed: int = field(default=0, metadata={"help": "of the permutations and the fine-tuning"})

    def __post_init__(self) -> None:
        given = [name for name in ("names", "fields", "max_auc_loss") if getattr(self, name)]
        if len(given) != 1:
            raise UserError(
                f"stage {NAME!r}: give one of names, fields and max_auc_loss, not "
                f"{' and '.join(given) or 'none'}"
            )
        if self.names and not self.names.strip(", "):
            raise UserError(f"stage {NAME!r}: names is {self.names!r}; expected a feature's name")
        if self.fields < 0 or not 0 <= self.max_auc_loss < 1:
            raise UserError(
                f"stage {NAME!r}: fields is {self.fields} and max_auc_loss {self.max_auc_loss}; "
                "expected 0 or more, and a loss below 1"
            )
        require_least_one(NAME, self, "requests", "repeats")
        self.tuning()

    def tuning(self) -> DistilSettings:
        """Return how it is fine-tuned."""
        from optimize.finetuning.settings import DistilSettings

        return DistilSettings(steps=self.steps, learning_rate=self.learning_rate, seed=self.seed)

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Choose and drop; see `optimize.stages.LearningStage.run`."""
        if artifact.manifest.layout != "flat":
            raise UserError(
                f"stage {NAME!r} reads flat programs; {artifact.folder} has the layout "
                f"{artifact.manifest.layout!r}: put it before user_once"
            )
        try:
            return self._run(artifact, folder, calibration)
        except UserError as error:
            raise UserError(f"stage {NAME!r}: {error}") from error

    def _run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        import numpy as np

        from optimize.artifact import copy_model
        from optimize.fields.choosing import Budget, choose
        from optimize.fields.dropping import drop_field, held_bytes
        from optimize.fields.importance import importances
        from optimize.fields.reading import score_with
        from optimize.fields.report import Report
        from optimize.tables.program import open_program, program_of
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        signature = manifest.signature
        names = names_in(self.names)
        budget = Budget(names, self.fields, self.max_auc_loss)
        count = min(len(calibration), self.requests)
        drawn = np.linspace(0, len(calibration) - 1, count).round().astype(np.int64)
        requests = calibration.select(drawn)
        budget.check(signature, requests)
        graph = open_program(artifact)
        reference = score_with(graph, requests)
        if not np.isfinite(reference).all():
            raise UserError("some scores of the calibration requests are not finite")
        worth = importances(
            graph,
            signature.features,
            requests,
            reference,
            signature.score,
            repeats=self.repeats,
            seed=self.seed,
        )
        found = choose(graph, signature, requests, reference, worth=worth, budget=budget)
        before, saved = held_bytes(graph), {}
        for each in found.constants:
            graph, saved[each.feature] = drop_field(graph, each)
        smaller = replace(
            signature,
            features=tuple(x for x in signature.features if x.name not in saved),
            ignored=(*signature.ignored, *saved),
        )
        changed = replace(manifest, signature=smaller)
        tuned = None
        if saved and self.steps:
            tuned = self._tune(graph, artifact, requests, changed)
        if saved:
            save_program(program_of(graph, changed), folder / PROGRAM)
            changed = replace(changed, model=PROGRAM)
        else:
            copy_model(artifact, folder)
        report = Report(
            worth=tuple(worth),
            chosen=found,
            table_bytes=saved,
            weight_bytes=before,
            signatures=(signature, smaller),
            candidates=max(1, int(np.median(requests.candidates))),
            requests=len(requests),
        )
        said = report.to_json() | {"fine_tuning": None if tuned is None else tuned.to_json()}
        (folder / REPORT).write_text(json.dumps(said, indent=1) + "\n")
        notes = [f"{NAME}: {report.describe()}"]
        if tuned is not None:
            notes.append(f"{NAME}: {tuned.describe()}")
        return replace(changed, notes=(*manifest.notes, *notes))

    def _tune(
        self, graph: FlatGraph, artifact: Artifact, requests: RequestBatch, changed: Manifest
    ) -> DistilReport:
        """Let a graph that lacks features score as the artifact does, which has them."""
        from optimize.finetuning.distil import distil
        from optimize.finetuning.trainable import trainable_module
        from optimize.pruning.prune import plain_answers
        from optimize.torch_program import load_program

        teacher = trainable_module(load_program(artifact.model_path))
        with plain_answers(graph) as student:
            return distil(
                student, teacher, requests, changed, self.tuning(), taught=artifact.manifest
            )
