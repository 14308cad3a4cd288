"""Stage ``onnx_session``: the same graph, opened with other session options."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from optimize.artifact import copy_model
from optimize.gpu_graphs import OF_GRAPH
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest


@dataclass(frozen=True)
class OnnxSession:
    """Records how ONNX Runtime is to open the graph, so that it can be measured as a variant.

    What pays depends on the graph, the machine and what else runs on it; the defaults are those of
    a server whose cores are shared. The deployed Python backend opens sessions alike; how many
    threads each of its instances has is an option of ``deploy``.
    Source: https://onnxruntime.ai/docs/performance/tune-performance/threading.html
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    code: ClassVar[tuple[str, ...]] = ()

    threads: int = field(
        default=0, metadata={"help": "of one call in process; 0: as many as there are cores"}
    )
    spinning: bool = field(
        default=False, metadata={"help": "threads wait for work at full speed, for lower latency"}
    )
    arena: bool = field(
        default=True, metadata={"help": "memory is kept between calls instead of returned"}
    )
    io_binding: bool = field(
        default=False, metadata={"help": "inputs and outputs are bound before a call"}
    )

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise UserError(f"stage 'onnx_session': threads is {self.threads}; expected 0 or more")

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Copy the graph; see `optimize.stages.Stage.run`."""
        copy_model(artifact, folder)
        before = artifact.manifest.settings
        # What a GPU's graph needs of a CPU is no option of the session.
        kept = {name: before[name] for name in OF_GRAPH if name in before}
        return replace(artifact.manifest, settings={**kept, **asdict(self)})
