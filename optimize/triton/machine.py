"""What the embedded server needs of the machine, and what it takes from where it is started."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from optimize.versions import installed_distribution
from rankers.errors import UserError

# NumPy 1 ends with wheels for 3.12, and the wheel's stubs begin with 3.8.
_MINORS = (12, 11)
_OLDEST_GLIBC = (2, 35)


class InstallationError(UserError):
    """The embedded server cannot be set up on this machine."""


def check_machine() -> None:
    """Refuse a machine that the server's binaries do not run on.

    Raises:
        InstallationError: It is of another kind, or its libc is too old.
    """
    machine, system = platform.machine(), platform.system()
    if (system, machine) != ("Linux", "x86_64"):
        raise InstallationError(
            f"the embedded Triton runs on Linux x86_64; this is {system} {machine}: "
            "use Dockerfile.triton"
        )
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "no glibc").split()
        found = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        name, version, found = "another libc", "", (0, 0)
    if found < _OLDEST_GLIBC:
        raise InstallationError(
            f"the embedded Triton needs glibc 2.35 or newer; this machine has "
            f"{f'{name} {version}'.strip()}: use Dockerfile.triton or a newer distribution"
        )


def interpreter() -> tuple[int, str]:
    """Return the minor version and path of the Python that the server's environment is made of.

    Raises:
        InstallationError: None that it can be made of is here.
    """
    running = sys.version_info.minor
    if running in _MINORS:
        return running, sys.executable
    for minor in _MINORS:
        found = shutil.which(f"python3.{minor}")
        # A pyenv shim is found for every version that pyenv knows, chosen or not: ask it.
        if (
            found
            and subprocess.run([found, "-V"], capture_output=True, check=False).returncode == 0
        ):
            return minor, found
    raise InstallationError(
        f"the embedded Triton needs Python 3.{_MINORS[-1]} or 3.{_MINORS[0]} for its own "
        f"environment; this is 3.{running} and neither is on PATH: install one of them"
    )


def server_runtimes() -> dict[str, str]:
    """Return the distributions of runtimes that the server gets, each with its version.

    Those of this environment: ``onnxruntime-gpu`` where it is here in place of ``onnxruntime`` (it
    has the same kernels for CPUs), OpenVINO only if it is here too.

    Raises:
        InstallationError: There is no ONNX Runtime.
    """
    found = [installed_distribution(name) for name in ("onnxruntime", "openvino")]
    if found[0] is None:
        raise InstallationError(
            "the embedded Triton gets the ONNX Runtime of this environment, which has none: "
            "pip install onnxruntime, or onnxruntime-gpu for a GPU"
        )
    return dict(each for each in found if each is not None)


def torch_path(minor: int) -> list[str]:
    """Return the folders that hold torch and rankserve; none for models of another Python."""
    if sys.version_info.minor != minor or importlib.util.find_spec("torch") is None:
        return []
    found = [importlib.util.find_spec(name) for name in ("torch", "optimize", "rankers")]
    folders = [str(Path(each.origin).parents[1]) for each in found if each and each.origin]
    return list(dict.fromkeys(folders))


def driver_folders() -> list[str]:
    """Return the folders of LD_LIBRARY_PATH that hold NVIDIA's driver: containers mount it so."""
    stated = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return [each for each in stated if each and any(Path(each).glob("libcuda.so*"))]
