"""What the suite measures: a ranker in a layout, behind a runtime, at a precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

ROWS = (1, 50, 200, 500, 2000, 4096)
QUICK_ROWS = (1, 50)
RANKERS = (
    "dlrm", "dcn_v2", "deepfm", "wide_deep", "two_tower", "din", "history_transformer",
    "cross_encoder",
)  # fmt: skip
# Those of which the user's part is much: measured with it computed once as well.
_USER_ONCE = ("dlrm", "din", "history_transformer")
# The parts of the suite by the name that --only takes, in order: what matters most comes first.
PARTS = {
    "graphs": ("cuda graphs", "cuda graphs, copies inside"),
    "fused rankers": ("cuda graphs, fused lookups",),
    "base": ("onnxruntime cpu", "eager"),
    "compiled": ("torch.compile", "cuda graphs, compiled", "max-autotune"),
    "aoti": ("aoti",),
    "served": ("served",),
}
# Behind the embedded server: each cell takes seconds to start, so one layout, and fewer precisions.
SERVED = "served"
_SERVED_PRECISIONS = ("fp32", "fp16")
# The fused kernels and their twins in torch, at each width of a row (bench/gpu/fused.py): dots of a
# DLRM, and the gathers alone, of single IDs and of bags, at sizes that only bandwidth bounds.
FUSED = "fused"
DOTS, GATHER, BAGS = "lookup_dots", "lookup_vectors", "lookup_vectors, bags"
FUSED_KERNEL = "fused kernel"
_FUSED_CELLS = {
    DOTS: (FUSED_KERNEL, "twin, eager", "twin, compiled"),
    GATHER: (FUSED_KERNEL, "twin, eager"),
    BAGS: (FUSED_KERNEL, "twin, eager"),
}
GATHER_ROWS = (4096, 16_384, 65_536)
# Of the copy bandwidth of the same run, at the largest of them.
LEAST_OF_COPY = 0.6
# Those that look up what is not read as a sequence alone.
_WITH_LOOKUPS = ("dlrm", "dcn_v2", "deepfm", "wide_deep", "two_tower", "din")
_ROW_WIDTHS = ("fp32", "fp16", "int8", "int4")
CEILINGS, KERNELS = "ceilings", "kernels"
ALL_PARTS = (CEILINGS, KERNELS, FUSED, *PARTS)
# How far scores may be from those of float64, in standard deviations of these.
LIMITS = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 4e-1}
_ONLY_FP32 = ("onnxruntime cpu",)


@dataclass(frozen=True, slots=True)
class Cell:
    """One opened runtime of one ranker; it is measured at every number of rows.

    Attributes:
        part: Of `PARTS`.
        ranker: Of the zoo, or the fused kernel.
        layout: ``flat`` or ``user_once``.
        runtime: Of its part.
        precision: Of matrix products; of the fused kernel, how a row is held.
    """

    part: str
    ranker: str
    layout: str
    runtime: str
    precision: str

    @property
    def name(self) -> str:
        """What progress lines call it; no other cell has it."""
        return f"{self.ranker} · {self.layout} · {self.runtime} · {self.precision}"

    def to_json(self) -> dict[str, Any]:
        """Return the cell as JSON-ready data."""
        return asdict(self)


def plan(
    parts: tuple[str, ...] = ALL_PARTS,
    rankers: tuple[str, ...] = RANKERS,
    precisions: tuple[str, ...] = tuple(LIMITS),
) -> list[Cell]:
    """Return the cells of some parts, the most telling first: a run may be cut at any time.

    A ranker's cells of a part follow each other, as they share what was built for it.
    """
    fused = [
        Cell(FUSED, operation, "flat", runtime, width)
        for operation, runtimes in _FUSED_CELLS.items()
        for runtime in runtimes
        for width in _ROW_WIDTHS
        if FUSED in parts
    ]
    return fused + [
        Cell(part, ranker, layout, runtime, precision)
        for part, runtimes in PARTS.items()
        if part in parts
        for ranker in rankers
        if part != "fused rankers" or ranker in _WITH_LOOKUPS
        for layout in _layouts(part, ranker)
        for runtime in runtimes
        for precision in precisions
        if precision == "fp32" or runtime not in _ONLY_FP32
        if part != SERVED or precision in _SERVED_PRECISIONS
    ]


def _layouts(part: str, ranker: str) -> tuple[str, ...]:
    if ranker not in _USER_ONCE:
        return ("flat",)
    return ("user_once",) if part == SERVED else ("flat", "user_once")
