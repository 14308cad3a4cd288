"""Which instruction sets this CPU has: some artifacts are made for them."""

from __future__ import annotations

import platform
from pathlib import Path

# What kernels of inference runtimes are chosen by, on x86-64 and on Arm.
_FLAGS = {
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
}


def instruction_sets() -> tuple[str, ...]:
    """Return the machine's architecture and those of its instruction sets that matter, sorted."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    flags: set[str] = set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            flags = set(value.split())
            break
    return (platform.machine(), *sorted(flags & _FLAGS))
