"""Several processes that train one module together, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Share:
    """This process's part of the work.

    Attributes:
        rank: Its number, from 0.
        processes: How many there are.
    """

    rank: int = 0
    processes: int = 1


def share_of_environment() -> Share:
    """Return what torchrun said to this process; the whole where nobody said anything."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def process_group(share: Share, device: str) -> Iterator[None]:
    """Join the others for as long as the block runs: NCCL between GPUs, else Gloo."""
    if share.processes == 1:
        yield
        return
    import torch
    from torch import distributed

    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
