"""Stage ``torch_compile``: the same program, compiled when it is opened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from optimize.artifact import Artifact, copy_model
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Manifest


@dataclass(frozen=True)
class TorchCompile:
    """Records that PyTorch is to compile the program with Inductor each time it is opened.

    What many teams serve today, and a rival to be measured: it compiles anew in every process,
    which takes as long as the stage says, in each instance of a server too. `compile_inductor`
    compiles once.
    Source: https://docs.pytorch.org/docs/stable/torch.compiler.html
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = ("runtimes/pytorch.py",)

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Copy the program, and compile it once; see `optimize.stages.Stage.run`."""
        from optimize.runtimes import physical_cores
        from optimize.runtimes.pytorch import open_artifact

        copy_model(artifact, folder)
        manifest = replace(artifact.manifest, settings={"compile": True})
        try:
            open_artifact(Artifact(folder, manifest), device="cpu", threads=physical_cores())
        except UserError:
            raise
        except Exception as error:  # the compiler has many kinds of its own
            raise UserError(f"torch.compile fails: {in_one_line(error)}") from error
        return manifest
