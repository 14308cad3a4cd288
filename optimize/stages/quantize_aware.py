"""Stage ``quantize_aware``: weights learn to bear 8 bits before they are given them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optimize.option_values import names_in

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.finetuning.rounding import Bits
    from optimize.finetuning.settings import DistilSettings
    from rankers.requests import RequestBatch

NAME = "quantize_aware"
REPORT = "quantize-aware.json"


@dataclass(frozen=True)
class QuantizeAware:
    """Fine-tunes dense layers with rounded weights and inputs, for `quantize_static` after it.

    The program as it came is the teacher. What comes out still multiplies floats: the weights are
    those that lose least by rounding, and each layer's input is cut to limits that were learnt,
    which ``quantize_static`` takes for its ranges. Pays where int8 loses more than the gates allow;
    where it loses nothing there is nothing to win back. Put it after ``user_once`` and before
    ``quantize_tables`` and ``export_onnx``. docs/finetuning.md tells more.
    Sources: Jacob et al., arXiv:1712.05877; Choi et al., PACT, arXiv:1805.06085.
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = (
        "finetuning/*.py",
        "flat_graph.py",
        "lookups.py",
        "int8/form.py",
        "int8/layers.py",
        "tables/program.py",
    )
    needs_data: ClassVar[bool] = True
    made_for_cpu: ClassVar[bool] = True

    steps: int = field(default=200, metadata={"help": "the most steps of fine-tuning"})
    learning_rate: float = field(default=3e-4, metadata={"help": "of AdamW, at its highest"})
    batch_requests: int = field(default=32, metadata={"help": "requests in a step"})
    labels_weight: float = field(
        default=0.0, metadata={"help": "of labels, beside 1 for the scores before"}
    )
    seed: int = field(default=0, metadata={"help": "of the order of requests"})
    frozen: str = field(
        default="", metadata={"help": "weights that do not learn: names or patterns, by commas"}
    )
    weights: Literal["int8", "int4"] = field(
        default="int8", metadata={"help": "as quantize_static is to write them"}
    )
    activations: Literal["cpu", "uint8", "int8"] = field(
        default="cpu", metadata={"help": "cpu: what this CPU multiplies fast; int8: for TensorRT"}
    )
    exclude: str = field(
        default="", metadata={"help": "layers to leave: names of weights or patterns, by commas"}
    )
    keep_last: bool = field(default=True, metadata={"help": "leave the layer that makes the score"})

    def __post_init__(self) -> None:
        self._settings()

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Fine-tune and cut; see `optimize.stages.LearningStage.run`."""
        from optimize.artifact import copy_model
        from optimize.finetuning.distil import columns_in_parts, distil
        from optimize.finetuning.layers import choose, cut_layers, dense_layers, round_layers
        from optimize.finetuning.trainable import trainable_module
        from optimize.tables.program import open_tables, program_of
        from optimize.torch_program import PROGRAM, load_program, save_program

        manifest = artifact.manifest
        graph, _ = open_tables(artifact)
        layers, left = choose(
            dense_layers(graph.module), exclude=self.exclude, keep_last=self.keep_last
        )
        said = f"{len(layers)} of {len(layers) + len(left)} dense layers"
        if not layers:
            copy_model(artifact, folder)
            return replace(manifest, notes=(*manifest.notes, f"{NAME}: nothing learnt: {said}"))
        bits = self._bits()
        teacher = trainable_module(load_program(artifact.model_path))
        round_layers(graph.module, layers, bits, columns_in_parts(calibration, manifest))
        report = distil(graph.module, teacher, calibration, manifest, self._settings())
        limits = cut_layers(graph.module)
        save_program(program_of(graph, manifest), folder / PROGRAM)
        written: dict[str, Any] = {
            "weight_bits": bits.weights,
            "layers": [each.name for each in layers],
            "left": left,
            "limits": limits,
            "fine_tuning": report.to_json(),
        }
        (folder / REPORT).write_text(json.dumps(written, indent=1) + "\n")
        note = (
            f"{NAME}: {said} learnt {bits.weights}-bit weights and 8-bit inputs: "
            f"{report.describe()}"
        )
        return replace(manifest, model=PROGRAM, notes=(*manifest.notes, note))

    def _bits(self) -> Bits:
        from optimize.finetuning.rounding import Bits
        from optimize.int8.form import form_here

        form = form_here()
        symmetric = (form.activations if self.activations == "cpu" else self.activations) == "int8"
        wide = 7 if form.seven_bits else 8
        return Bits(4 if self.weights == "int4" else wide, symmetric=symmetric)

    def _settings(self) -> DistilSettings:
        from optimize.finetuning.settings import DistilSettings

        return DistilSettings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            batch_requests=self.batch_requests,
            labels_weight=self.labels_weight,
            seed=self.seed,
            frozen=names_in(self.frozen),
        )
