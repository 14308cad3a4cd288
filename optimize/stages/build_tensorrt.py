"""Stage ``build_tensorrt``: an ONNX graph as a TensorRT engine of the GPU at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.bucket_options import BucketOptions
from optimize.gpu_graphs import COMPUTE_CAPABILITY
from optimize.option_values import require_least_one
from rankers.errors import UserError

if TYPE_CHECKING:
    from optimize.artifact import Artifact, Manifest
    from optimize.buckets import Buckets

NAME = "build_tensorrt"


@dataclass(frozen=True)
class BuildTensorrt(BucketOptions):
    """Builds a strongly typed engine with profiles of the buckets, over dense wire tensors.

    The graph is first made to take what a server gets (user once, items of one request side by
    side), proved to score the same on the CPU, and held against TensorRT's rules: what ``optimize
    preflight`` finds stops it. fp16, int8 and fp8 are the graph's own: they come from the stages
    before; fp8 takes a GPU from compute capability 8.9. The plan runs on the version of TensorRT
    and the model of GPU that built it, unless it is built to be compatible. Not run on a GPU yet.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/index.html
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "tensorrt"
    needs: ClassVar[tuple[str, ...]] = ("tensorrt", "onnx", "onnxruntime", "torch")
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    code: ClassVar[tuple[str, ...]] = (
        "tensorrt/*.py",
        "tensorrt/*.toml",
        "triton/dense_graph.py",
        "triton/wire_graph.py",
        "wire_inputs.py",
        "buckets.py",
        "bucket_options.py",
    )

    profiles: Literal["one", "buckets"] = field(
        default="one", metadata={"help": "one profile over all sizes, or one for each bucket"}
    )
    requests: int = field(default=1, metadata={"help": "of equal size, joined at most by a server"})
    version_compatible: bool = field(
        default=False, metadata={"help": "later versions of TensorRT run it; slower"}
    )
    hardware: Literal["none", "same_compute_capability", "ampere_plus"] = field(
        default="none", metadata={"help": "which other GPUs run it; slower"}
    )
    tf32: bool = field(
        default=False, metadata={"help": "float32 products in TF32: faster, three digits"}
    )
    workspace_mib: int = field(default=0, metadata={"help": "of one tactic; 0: the GPU's memory"})
    level: int = field(default=3, metadata={"help": "0 builds fast, 5 compares most tactics"})

    def __post_init__(self) -> None:
        require_least_one(NAME, self, "requests")
        if not 0 <= self.level <= 5:
            raise UserError(f"stage {NAME!r}: level is {self.level}; TensorRT has 0 to 5")

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Prove, hold against the rules, build; see `optimize.stages.Stage.run`."""
        from optimize.checksums import file_sha256
        from optimize.tensorrt.builder import build_engine, this_machine
        from optimize.tensorrt.building import BuildOptions, engine_profiles
        from optimize.tensorrt.compatibility import refuse_to_build
        from optimize.tensorrt.dense import write_dense
        from optimize.tensorrt.plan import LAYERS, LOG, PLAN, PlanFacts, plan_manifest

        buckets, said = self.choose(NAME)
        target = this_machine()
        least = artifact.manifest.requires.get(COMPUTE_CAPABILITY, "")
        refuse_to_build(least, target, self.hardware)
        options = BuildOptions(
            version_compatible=self.version_compatible,
            hardware=self.hardware,
            tf32=self.tf32,
            workspace_mib=self.workspace_mib,
            level=self.level,
        )
        profiles = engine_profiles(
            artifact.manifest.signature,
            buckets,
            usual=buckets.usual(self.histogram()),
            requests=self.requests,
            mode=self.profiles,
        )
        with TemporaryDirectory() as name:
            graph = write_dense(artifact, Path(name), _few(buckets))
            built = build_engine(graph, profiles, options, target=target, log=folder / LOG)
            facts = PlanFacts(
                built=target,
                options=options,
                profiles=profiles,
                sizes=buckets.sizes,
                beyond=buckets.beyond,
                requests=self.requests,
                graph_sha256=file_sha256(graph),
            )
        (folder / PLAN).write_bytes(built.plan)
        (folder / LAYERS).write_text(built.layers)
        note = (
            f"{NAME}: TensorRT {target.tensorrt} on {target.gpu}, {len(profiles)} profiles, {said}"
        )
        return plan_manifest(artifact.manifest, facts, note)


def _few(buckets: Buckets) -> tuple[int, ...]:
    """Return the buckets that the CPU tries the graph in: those of thousands take it long."""
    return buckets.sizes[:2]
