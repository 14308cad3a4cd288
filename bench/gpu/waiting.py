"""Waiting for a device: at once on the CPU, where a call is done when it returns."""

from __future__ import annotations

from typing import Any


def wait_for(device: str) -> None:
    """Return when all work that was given to the device is done."""
    if device != "cpu":
        import torch

        synchronize: Any = torch.cuda.synchronize  # torch gives it no types
        synchronize()
