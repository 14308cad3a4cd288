"""What the device can do at most, measured in the same run as what is held against it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from bench.gpu.timing import event_times, wall_times
from bench.gpu.waiting import wait_for

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def measure_ceilings(device: str, *, quick: bool = False) -> dict[str, float]:
    """Measure copy bandwidth, the rate of matrix products, and the least time of a launch.

    Args:
        device: ``cpu`` or ``cuda``.
        quick: Sizes of a smoke test, which say nothing of the device.

    Returns:
        ``copy_bytes_per_s`` (a copy within the device, bytes read and written), ``PRECISION_flops_
        per_s``, ``launch_us`` (an operator on one value), ``there_us`` and ``back_us`` (a copy of
        64 KiB between the host's pinned memory and the device).
    """
    found: dict[str, float] = {}
    seconds = 0.02 if quick else 0.5
    given: Any = {"seconds": seconds, "count": 200}
    size = 1 << (20 if quick else 30)
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    copied = event_times([partial(target.copy_, source)], device, **given)
    found["copy_bytes_per_s"] = 2 * size / copied.p50_us * 1e6
    width = 128 if quick else 8192
    for name, dtype in _DTYPES.items():
        # Of random numbers: a GPU draws less power for zeros, and so runs faster.
        left, right = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
        product = event_times([partial(torch.matmul, left, right)], device, **given)
        found[f"{name}_flops_per_s"] = 2 * width**3 / product.p50_us * 1e6
    one = torch.zeros(1, device=device)
    found["launch_us"] = event_times([lambda: one.add_(1)], device, **given).p50_us
    pinned = device != "cpu"
    host = torch.zeros(1 << 16, dtype=torch.uint8, pin_memory=pinned)
    there = torch.zeros(1 << 16, dtype=torch.uint8, device=device)

    def copy(to: torch.Tensor, of: torch.Tensor) -> None:
        to.copy_(of, non_blocking=True)
        wait_for(device)

    found["there_us"] = wall_times([lambda: copy(there, host)], **given).p50_us
    found["back_us"] = wall_times([lambda: copy(host, there)], **given).p50_us
    return found
