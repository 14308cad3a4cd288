"""Stage ``cuda_graphs``: the same program, replayed as a CUDA graph for each candidate bucket."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.artifact import Artifact, copy_model
from optimize.bucket_options import BucketOptions
from optimize.gpu_graphs import precision_in
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Manifest


@dataclass(frozen=True)
class CudaGraphs(BucketOptions):
    """Records buckets of candidates, for each of which the program is captured when it is opened.

    On a GPU a small ranker's time is that of launching its kernels one by one; a captured graph is
    launched at once. Requests are padded to their bucket; scores of padding are thrown away, and
    the stage refuses a program whose scores depend on what other rows hold. A user-once program
    runs one user at a time.
    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    code: ClassVar[tuple[str, ...]] = (
        "runtimes/cuda_graphs.py",
        "runtimes/static_buckets.py",
        "static_inputs.py",
        "half_products.py",
        "fake_quantization/*.py",
        "buckets.py",
        "bucket_options.py",
        "padding.py",
    )

    precision: Literal["fp32", "fp16", "bf16"] = field(
        default="fp32", metadata={"help": "of matrix products; the rest stays float32"}
    )
    compile: bool = field(
        default=False, metadata={"help": "torch.compile makes the kernels, in every process anew"}
    )
    max_autotune: bool = field(
        default=False, metadata={"help": "with compile: try several kernels for each product"}
    )
    copies_in_graph: bool = field(
        default=False, metadata={"help": "capture the copies to and from the device as well"}
    )

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Copy the program, open it on the CPU, and prove that padding reaches no score."""
        from optimize.padding import refuse_if_padding_matters
        from optimize.runtimes.cuda_graphs import SETTING, GraphOptions, open_artifact

        if artifact.manifest.layout not in ("flat", "user_once"):
            raise UserError(f"cuda_graphs takes no {artifact.manifest.layout} program")
        buckets, said = self.choose("cuda_graphs")
        options = GraphOptions(
            sizes=buckets.sizes,
            beyond=buckets.beyond,
            precision=self.precision,
            compile=self.compile,
            max_autotune=self.max_autotune,
            copies_in_graph=self.copies_in_graph,
        )
        copy_model(artifact, folder)
        manifest = replace(
            artifact.manifest,
            precision=artifact.manifest.precision
            if self.precision == "fp32"
            else precision_in(artifact.manifest.precision, self.precision),
            settings={SETTING: options.to_json()},
            notes=(*artifact.manifest.notes, f"cuda_graphs: {said}"),
        )
        # What the compiler makes is judged by the gates, on the device; here it would take minutes.
        plain = replace(options, compile=False, sizes=buckets.sizes[:2])
        opened = replace(manifest, settings={SETTING: plain.to_json()})
        predict = open_artifact(Artifact(folder, opened), device="cpu", threads=1)
        refuse_if_padding_matters(predict, opened, plain.sizes, stage="cuda_graphs")
        return manifest
