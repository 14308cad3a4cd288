"""Which kernels one call launches, how long they run, and how long the device waits between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.gpu.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLS = 5


def kernels_of(call: Callable[[], object], device: str) -> dict[str, Any]:
    """Profile a call that leaves its work on the device.

    Returns:
        ``kernels`` of one call, ``busy_us`` and ``gaps_us`` of one call: while a kernel ran, and
        between two. On the CPU, the operators that torch dispatched.
    """
    activity = ProfilerActivity.CPU if device == "cpu" else ProfilerActivity.CUDA
    for _ in range(2):
        call()
    wait_for(device)
    with profile(activities=[activity]) as profiled:
        for _ in range(_CALLS):
            call()
        wait_for(device)
    kind = DeviceType.CPU if device == "cpu" else DeviceType.CUDA
    spans = sorted(
        (each.time_range.start, each.time_range.end)
        for each in profiled.events()
        if each.device_type == kind and (device != "cpu" or each.cpu_parent is None)
    )
    return summary(spans, _CALLS)


def summary(spans: list[tuple[float, float]], calls: int) -> dict[str, Any]:
    """Return how many spans a call has, and how long some and none of them were under way.

    Args:
        spans: Start and end in microseconds, by start; they may overlap.
        calls: How many calls they are of.
    """
    busy, covered = 0.0, spans[0][0] if spans else 0.0
    gaps = 0.0
    for start, end in spans:
        gaps += max(0.0, start - covered)
        busy += max(0.0, end - max(start, covered))
        covered = max(covered, end)
    return {"kernels": len(spans) / calls, "busy_us": busy / calls, "gaps_us": gaps / calls}
