"""Where a measurement was made: enough to judge it by, nothing that names the machine's owner."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Instruction sets that decide which kernels run; /proc/cpuinfo's names.
_DECISIVE_FLAGS = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve",
)  # fmt: skip
_LIBRARIES = (
    "torch", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "numpy", "grpcio",
    "tritonclient", "rankserve",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Environment:
    """A machine and what runs on it.

    Attributes:
        machine: A fingerprint of CPU, cores, memory and GPU: the same on the same kind of machine.
        cpu: The CPU's model name.
        isa: Those of its instruction sets that decide which kernels run.
        physical_cores: Of the machine.
        logical_cores: Of the machine.
        usable_cores: That this process may run on.
        cpu_limit: The control group's limit in cores, if there is one.
        memory_bytes: Of the machine.
        governor: The frequency governor of the first core, if it can be read.
        kernel: The kernel's release.
        python: Python's version.
        versions: Of the libraries that matter, where installed.
        gpu: Name, driver, clocks and memory of each GPU that nvidia-smi sees.
    """

    machine: str
    cpu: str
    isa: tuple[str, ...]
    physical_cores: int
    logical_cores: int
    usable_cores: int
    cpu_limit: float | None
    memory_bytes: int
    governor: str | None
    kernel: str
    python: str
    versions: dict[str, str]
    gpu: tuple[dict[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the environment as JSON-ready data."""
        return asdict(self) | {"isa": list(self.isa), "gpu": list(self.gpu)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Environment:
        """Read what `to_json` wrote."""
        return cls(**data | {"isa": tuple(data["isa"]), "gpu": tuple(data["gpu"])})


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """What all CPUs spent so far, in clock ticks."""

    total: int
    steal: int

    def steal_share(self, later: CpuTimes) -> float | None:
        """Return the share of time since that another guest of the same host took."""
        passed = later.total - self.total
        return (later.steal - self.steal) / passed if passed > 0 else None


@dataclass(frozen=True, slots=True)
class Clocks:
    """What the clocks say at one moment, in seconds.

    Attributes:
        wall: Of the day: set by people and by NTP.
        running: Monotonic, standing still while the machine sleeps.
    """

    wall: float
    running: float

    @classmethod
    def read(cls) -> Clocks:
        """Read both."""
        return cls(time.time(), time.monotonic())

    def drift_s(self, later: Clocks) -> float:
        """Return by how much they drew apart since: set, slewed, or the machine slept."""
        return abs((later.wall - self.wall) - (later.running - self.running))


@functools.cache
def environment() -> Environment:
    """Look at this machine, once for each process."""
    import psutil

    cpu, isa = _cpu()
    physical = psutil.cpu_count(logical=False) or 0
    logical = psutil.cpu_count() or 0
    memory = int(psutil.virtual_memory().total)
    gpu = _gpus()
    # Whole GiB: what is left of the memory after the kernel's share differs between boots.
    same = [cpu, physical, logical, round(memory / 2**30), [each["name"] for each in gpu]]
    return Environment(
        machine=hashlib.sha256(repr(same).encode()).hexdigest()[:12],
        cpu=cpu,
        isa=isa,
        physical_cores=physical,
        logical_cores=logical,
        usable_cores=len(os.sched_getaffinity(0)),
        cpu_limit=_cpu_limit(),
        memory_bytes=memory,
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=_versions(),
        gpu=gpu,
    )


def cpu_times() -> CpuTimes | None:
    """Read what the CPUs spent so far; None where the kernel does not say."""
    line = (_read("/proc/stat") or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None
    # user nice system idle iowait irq softirq steal; guest time is within user time already.
    ticks = [int(each) for each in line[1:9]]
    return CpuTimes(total=sum(ticks), steal=ticks[7])


def load_average() -> float:
    """Return how many processes wanted a core in the last minute, on average."""
    return os.getloadavg()[0]


def _cpu() -> tuple[str, tuple[str, ...]]:
    """Return the model's name and the decisive instruction sets."""
    fields: dict[str, str] = {}
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    model = fields.get("model name") or platform.processor() or platform.machine()
    return model, tuple(flag for flag in _DECISIVE_FLAGS if flag in flags)


def _cpu_limit() -> float | None:
    """Return the control group's quota in cores: version 2, then version 1."""
    quota, _, period = (_read("/sys/fs/cgroup/cpu.max") or "").partition(" ")
    if not quota:
        quota = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or "max"
        period = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us") or "0"
    if quota in {"max", "-1"} or int(period) == 0:
        return None
    return int(quota) / int(period)


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _gpus() -> tuple[dict[str, str], ...]:
    """Ask nvidia-smi; an empty tuple where there is none or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    fields = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "memory.total")
    query = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.split(", ") for line in answer.stdout.splitlines() if line]
    return tuple(dict(zip(fields, row, strict=False)) for row in rows)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
