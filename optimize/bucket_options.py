"""The options that stages with candidate buckets have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimize.buckets import Buckets


@dataclass(frozen=True)
class BucketOptions:
    """How a stage's buckets are chosen: by a workload's candidates, by hand, or `LADDER`."""

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

    @property
    def reads(self) -> tuple[Path, ...]:
        """The workload's file: its content decides the buckets."""
        return (Path(self.workload),) if self.workload.endswith(".toml") else ()

    def choose(self, stage: str) -> tuple[Buckets, str]:
        """Return the buckets, and a line about them.

        Raises:
            UserError: There are sizes and a workload, sizes are no numbers, or the workload is
                wrong.
        """
        from optimize.buckets import LADDER, Buckets, choose_buckets, padding_waste

        if self.workload and self.sizes:
            raise UserError(f"{stage} takes a workload or sizes, not both")
        histogram = self.histogram()
        if histogram is None:
            sizes = read_sizes(self.sizes) if self.sizes else LADDER
            return Buckets(sizes, self.beyond), f"buckets {listed(sizes)}"
        chosen = choose_buckets(
            histogram,
            self.buckets,
            multiple=self.multiple,
            greatest=self.greatest or None,
            beyond=self.beyond,
        )
        waste = padding_waste(chosen, histogram)
        return chosen, (
            f"buckets {listed(chosen.sizes)} for the workload {self.workload!r}: "
            f"{waste.of_computed:.1%} of the rows computed are padding"
        )

    def histogram(self) -> Mapping[int, float] | None:
        """Return how often each number of candidates occurs; None where no workload is named.

        Raises:
            UserError: The workload is wrong.
        """
        from optimize.buckets import workload_histogram

        return workload_histogram(self.workload) if self.workload else None


def read_sizes(text: str) -> tuple[int, ...]:
    """Read sizes as options give them: numbers with commas between.

    Raises:
        UserError: Something else stands there.
    """
    parts = [each.strip() for each in text.split(",")]
    if not all(each.isdigit() for each in parts):
        raise UserError(f"sizes is {text!r}; expected numbers, such as '8,64,512'")
    return tuple(int(each) for each in parts)


def listed(sizes: Sequence[int]) -> str:
    """Return sizes as a note says them."""
    return ", ".join(str(each) for each in sizes)
