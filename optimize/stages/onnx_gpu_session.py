"""Stage ``onnx_gpu_session``: the same graph, in ONNX Runtime on a GPU over candidate buckets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.artifact import Artifact, copy_model
from optimize.bucket_options import BucketOptions
from optimize.gpu_graphs import OF_GRAPH, ONNX_BUCKETS
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Manifest

NAME = "onnx_gpu_session"


@dataclass(frozen=True)
class OnnxGpuSession(BucketOptions):
    """Records that ONNX Runtime opens the graph on a GPU, with bound buffers for each bucket.

    ``provider = "cuda"`` runs its own kernels, captured as CUDA graphs; ``"tensorrt"`` builds an
    engine when the artifact is opened, with one explicit profile from one candidate to the greatest
    bucket, and keeps engine and timings under the user's cache folder. A value has the type that it
    has in the graph: fp16 and int8 come from the stages before. A user-once graph runs one user at
    a time. Not run on a GPU yet.
    Sources: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html,
    https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnxruntime", "torch")
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    code: ClassVar[tuple[str, ...]] = (
        "runtimes/onnx_*.py",
        "runtimes/static_buckets.py",
        "static_inputs.py",
        "buckets.py",
        "bucket_options.py",
        "padding.py",
    )

    provider: Literal["cuda", "tensorrt"] = field(
        default="cuda", metadata={"help": "of ONNX Runtime: its own kernels, or TensorRT's"}
    )
    cuda_graph: bool = field(
        default=True, metadata={"help": "launches are captured once and replayed"}
    )
    tf32: bool = field(
        default=False, metadata={"help": "float32 products in TF32: faster, three digits"}
    )

    def unmet(self) -> str | None:
        """Say that ONNX Runtime lacks the provider; None if it has it."""
        from optimize.runtimes.onnx_providers import missing_provider

        return missing_provider(self.provider)

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Copy the graph, open it on the CPU, and prove that padding reaches no score."""
        from optimize.padding import refuse_if_padding_matters
        from optimize.runtimes.onnx_buckets import SessionOptions, open_artifact

        manifest = artifact.manifest
        if manifest.layout not in ("flat", "user_once"):
            raise UserError(f"{NAME} takes no {manifest.layout} graph")
        buckets, said = self.choose(NAME)
        options = SessionOptions(
            sizes=buckets.sizes,
            beyond=buckets.beyond,
            provider=self.provider,
            cuda_graph=self.cuda_graph,
            tf32=self.tf32,
            usual=buckets.usual(self.histogram()),
        )
        copy_model(artifact, folder)
        kept = {name: manifest.settings[name] for name in OF_GRAPH if name in manifest.settings}
        made = replace(
            manifest,
            settings={**kept, ONNX_BUCKETS: options.to_json()},
            notes=(*manifest.notes, f"{NAME}: {self.provider}, {said}"),
        )
        few = replace(options, sizes=buckets.sizes[:2], usual=buckets.sizes[0])
        opened = replace(made, settings={**kept, ONNX_BUCKETS: few.to_json()})
        predict = open_artifact(Artifact(folder, opened), device="cpu", threads=1)
        refuse_if_padding_matters(predict, opened, few.sizes, stage=NAME)
        return made
