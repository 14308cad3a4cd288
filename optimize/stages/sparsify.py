"""Stage ``sparsify``: weights of dense layers become zero, in any places or two of every four."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.option_values import names_in, require_least_one, require_share
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.finetuning.settings import DistilSettings
    from rankers.requests import RequestBatch

NAME = "sparsify"
REPORT = "sparsity.json"


@dataclass(frozen=True)
class Sparsify:
    """Makes weights of dense layers zero; the file is as large and as fast as before on a CPU.

    ``2:4`` leaves two of every four along the inputs, as the sparse tensor cores of Ampere and
    later multiply at up to twice the speed, if TensorRT builds with sparsity enabled (not run
    here). ``any`` helps what compresses the file, and nothing else that this project runs. To be
    faster everywhere use `prune_neurons`. docs/pruning.md tells more.
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

    pattern: Literal["2:4", "any"] = field(
        default="2:4", metadata={"help": "2:4: two of every four inputs stay; any: anywhere"}
    )
    sparsity: float = field(
        default=0.5, metadata={"help": "of any: the share of each output's weights that goes"}
    )
    steps: int = field(
        default=0, metadata={"help": "of fine-tuning by distillation; zeros stay zeros"}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "of the fine-tuning"})
    requests: int = field(default=256, metadata={"help": "the most calibration requests used"})
    exclude: str = field(
        default="", metadata={"help": "layers to leave: names or patterns, by commas"}
    )
    min_inputs: int = field(default=16, metadata={"help": "layers of fewer inputs are left"})
    seed: int = field(default=0, metadata={"help": "of the fine-tuning"})

    def __post_init__(self) -> None:
        require_share(NAME, self, "sparsity")
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise UserError(
                f"stage {NAME!r}: sparsity is {self.sparsity}; 2:4 is a half, give pattern = 'any'"
            )
        require_least_one(NAME, self, "requests", "min_inputs")
        self.tuning()

    def tuning(self) -> DistilSettings:
        """Return how it is fine-tuned."""
        from optimize.finetuning.settings import DistilSettings

        return DistilSettings(steps=self.steps, learning_rate=self.learning_rate, seed=self.seed)

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Make weights zero; see `optimize.stages.LearningStage.run`."""
        from optimize.pruning.sample import evenly_drawn
        from optimize.pruning.sparsity import sparsify
        from optimize.tables.program import program_of
        from optimize.torch_program import PROGRAM, save_program

        manifest = artifact.manifest
        drawn = evenly_drawn(calibration, self.requests)
        graph, layers, tuned = sparsify(
            artifact,
            drawn,
            self.tuning(),
            sparsity=self.sparsity,
            pattern=self.pattern,
            exclude=names_in(self.exclude),
            min_inputs=self.min_inputs,
        )
        save_program(program_of(graph, manifest), folder / PROGRAM)
        said = {
            "pattern": self.pattern,
            "requests": len(drawn),
            "layers": [asdict(each) for each in layers],
            "fine_tuning": None if tuned is None else tuned.to_json(),
        }
        (folder / REPORT).write_text(json.dumps(said, indent=1) + "\n")
        sparse = [each for each in layers if not each.reason]
        zeros, weights = (
            sum(each.zeros for each in sparse),
            sum(each.inputs * each.outputs for each in layers),
        )
        note = (
            f"{NAME}: {self.pattern}: {zeros:,} of {weights:,} weights are zero, in {len(sparse)} "
            f"of {len(layers)} dense layers; as many bytes and multiply-adds as before, except for "
            "what skips zeros"
        )
        notes = [note]
        if tuned is not None:
            notes.append(f"{NAME}: {tuned.describe()}")
        return replace(manifest, model=PROGRAM, notes=(*manifest.notes, *notes))
