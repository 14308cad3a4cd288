"""Stage ``cuda_graphs``: the same program, replayed as a CUDA graph for each candidate bucket."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.artifact import Artifact, copy_model
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Manifest
    from optimize.buckets import Buckets

# What padding may move a score by: products of one shape give the same bits for the same row.
_MOVED = 1e-6


@dataclass(frozen=True)
class CudaGraphs:
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
        "static_inputs.py",
        "half_products.py",
        "buckets.py",
    )

    workload: str = field(
        default="",
        metadata={"help": "a workload's name or .toml; its candidates choose the buckets"},
    )
    buckets: int = field(default=6, metadata={"help": "how many, with a workload"})
    multiple: int = field(default=8, metadata={"help": "of which sizes are multiples"})
    greatest: int = field(
        default=4096, metadata={"help": "the largest bucket; 0: the workload's largest request"}
    )
    sizes: str = field(
        default="", metadata={"help": "the buckets themselves, as '8,64,512'; without a workload"}
    )
    beyond: Literal["split", "refuse"] = field(
        default="split", metadata={"help": "what becomes of requests beyond the largest bucket"}
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

    @property
    def reads(self) -> tuple[Path, ...]:
        """The workload's file: its content decides the buckets."""
        from pathlib import Path

        return (Path(self.workload),) if self.workload.endswith(".toml") else ()

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Copy the program, open it on the CPU, and prove that padding reaches no score."""
        from optimize.runtimes.cuda_graphs import SETTING, GraphOptions

        if artifact.manifest.layout not in ("flat", "user_once"):
            raise UserError(f"cuda_graphs takes no {artifact.manifest.layout} program")
        buckets, said = self._buckets()
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
            precision=self.precision if self.precision != "fp32" else artifact.manifest.precision,
            settings={SETTING: options.to_json()},
            notes=(*artifact.manifest.notes, f"cuda_graphs: {said}"),
        )
        # What the compiler makes is judged by the gates, on the device; here it would take minutes.
        plain = replace(options, compile=False, sizes=buckets.sizes[:2])
        opened = replace(manifest, settings={SETTING: plain.to_json()})
        refuse_if_padding_matters(Artifact(folder, opened))
        return manifest

    def _buckets(self) -> tuple[Buckets, str]:
        """Return the buckets, and a line about them."""
        from optimize.buckets import (
            LADDER,
            Buckets,
            choose_buckets,
            padding_waste,
            workload_histogram,
        )

        if self.workload and self.sizes:
            raise UserError("cuda_graphs takes a workload or sizes, not both")
        if not self.workload:
            sizes = _read_sizes(self.sizes) if self.sizes else LADDER
            return Buckets(sizes, self.beyond), f"buckets {_listed(sizes)}"
        histogram = workload_histogram(self.workload)
        chosen = choose_buckets(
            histogram,
            self.buckets,
            multiple=self.multiple,
            greatest=self.greatest or None,
            beyond=self.beyond,
        )
        waste = padding_waste(chosen, histogram)
        return chosen, (
            f"buckets {_listed(chosen.sizes)} for the workload {self.workload!r}: "
            f"{waste.of_computed:.1%} of the rows computed are padding"
        )


def refuse_if_padding_matters(artifact: Artifact) -> None:
    """Score the same rows beside different padding.

    Raises:
        UserError: The scores differ: rows of this program depend on each other.
    """
    import numpy as np

    from optimize.runtimes.cuda_graphs import SETTING, open_artifact
    from optimize.samples import sample_requests

    manifest = artifact.manifest
    predict = open_artifact(artifact, device="cpu", threads=1)
    for size in manifest.settings[SETTING]["sizes"]:
        if size == 1:
            continue
        request, other = (
            manifest.columns_of(sample_requests(manifest.signature, [rows]))
            for rows in (size // 2, size)
        )
        among_zeros = predict(request)
        predict(other)  # leaves its rows behind as the next request's padding
        among_others = predict(request)
        moved = float(np.abs(among_others - among_zeros).max())
        if not moved <= _MOVED:
            raise UserError(
                f"cuda_graphs pads requests, and this program's scores depend on other rows: by "
                f"{moved:.2g} at {size // 2} of {size}"
            )


def _read_sizes(text: str) -> tuple[int, ...]:
    parts = [each.strip() for each in text.split(",")]
    if not all(each.isdigit() for each in parts):
        raise UserError(f"sizes is {text!r}; expected numbers, such as '8,64,512'")
    return tuple(int(each) for each in parts)


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(str(each) for each in sizes)
