"""The embedded Triton server, set up once in the user's cache folder.

The PyPI wheel of nvidia-pytriton carries the real ``tritonserver`` and its Python backend. They
get an environment of their own, as they would in a container: the backend's stub needs NumPy 1
(under NumPy 2 its outputs come back as zero bytes, without an error), and the runtimes have to be
the project's versions, so that served scores are the in-process ones: ONNX Runtime, in the build
for GPUs if that is the project's, and OpenVINO where the project has it. torch is too large to have
twice: models that need it find it where the server is started from
(docs/decisions/031-torch-from-where-the-server-starts.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optimize.triton.libpython import provide_libpython
from optimize.triton.machine import (
    InstallationError,
    check_machine,
    driver_folders,
    interpreter,
    server_runtimes,
    torch_path,
)
from rankers.cache import cache_folder
from rankers.files import new_folder, remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TRITON_WHEEL = "nvidia-pytriton"
TRITON_WHEEL_VERSION = "0.7.0"
TRITON_WHEEL_SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
TRITON_VERSION = "2.51.0"
NUMPY = "numpy==1.26.4"
# What python_backend/model.py puts behind the server's own packages for models that need torch.
TORCH_PATH = "RANKSERVE_TORCH_PATH"


@dataclass(frozen=True, slots=True)
class ServerInstallation:
    """Where the server and its environment are.

    Attributes:
        folder: Everything lies below it.
        minor: Of the Python 3 that the server's models run in.
    """

    folder: Path
    minor: int

    @property
    def executable(self) -> Path:
        """The ``tritonserver`` binary."""
        return self.folder / "wheel" / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """What ``--backend-directory`` takes."""
        return self.folder / "wheel" / "pytriton" / "tritonserver" / "backends"

    @property
    def stub(self) -> Path:
        """The process that hosts one model instance."""
        return self.backends / "python" / "triton_python_backend_stub"

    def environment(self) -> dict[str, str]:
        """Return the environment variables the server is started with.

        The stub takes the ``python3`` that is first on PATH as its home, so that is ours, and what
        would lead it elsewhere (PYTHONHOME, LD_PRELOAD, …) is left out.
        """
        kept = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "CUDA_VISIBLE_DEVICES")
        return {name: os.environ[name] for name in kept if name in os.environ} | {
            "PATH": f"{self.folder / 'env' / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join([str(self.folder / "lib"), *driver_folders()]),
            TORCH_PATH: os.pathsep.join(torch_path(self.minor)),
        }


def install(progress: Callable[[str], None] = lambda _: None) -> ServerInstallation:
    """Return the embedded server, setting it up if this is the first time.

    Args:
        progress: Is told in a line what happens; nothing is said if there is nothing to do.

    Raises:
        InstallationError: It cannot be set up here; the message says why and what to do.
    """
    minor, python = interpreter()
    runtimes = server_runtimes()
    parent = cache_folder() / "triton"
    folder = parent / "-".join(
        [f"{TRITON_WHEEL_VERSION}-py3.{minor}", *(f"{name}{it}" for name, it in runtimes.items())]
    )
    installation = ServerInstallation(folder, minor)
    if folder.is_dir():
        return installation
    check_machine()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(parent / "lock", progress):
            if not folder.is_dir():
                remove_leftovers(parent)
                with new_folder(folder) as aside:
                    _fill(ServerInstallation(aside, minor), python, runtimes, progress)
    except OSError as error:
        raise InstallationError(f"{folder}: the server cannot be set up: {error}") from error
    progress(f"the embedded Triton {TRITON_VERSION} is ready in {folder}")
    return installation


def _fill(
    aside: ServerInstallation,
    python: str,
    runtimes: dict[str, str],
    progress: Callable[[str], None],
) -> None:
    env = aside.folder / "env"
    progress(f"setting up the embedded Triton {TRITON_VERSION}, once: its Python environment")
    _run([python, "-m", "venv", str(env)], "its Python environment cannot be made")
    pip = [str(env / "bin" / "python3"), "-m", "pip"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:"]
    needed = [NUMPY, *(f"{name}=={version}" for name, version in runtimes.items())]
    _run([*pip, "install", *quiet, *needed], f"pip cannot install {' and '.join(needed)}")

    progress(f"fetching {TRITON_WHEEL} {TRITON_WHEEL_VERSION} (55 MB)")
    wheel_name = f"{TRITON_WHEEL}=={TRITON_WHEEL_VERSION}"
    downloads = aside.folder / "downloads"
    _run(
        [*pip, "download", *quiet, "--no-deps", "--dest", str(downloads), wheel_name],
        f"pip cannot fetch {wheel_name}, which carries the server",
    )
    wheel = next(downloads.glob("*.whl"))
    _check_wheel(wheel)
    progress("unpacking the server")
    with zipfile.ZipFile(wheel) as archive:
        parts = ("pytriton/tritonserver/", "nvidia_pytriton.libs/")
        archive.extractall(
            aside.folder / "wheel",
            [name for name in archive.namelist() if name.startswith(parts)],
        )
    shutil.rmtree(downloads)

    server = aside.backends.parent
    stubs = server / "python_backend_stubs"
    shutil.copyfile(stubs / f"3.{aside.minor}" / aside.stub.name, aside.stub)
    shutil.rmtree(stubs)
    aside.stub.chmod(0o755)
    aside.executable.chmod(0o755)
    provide_libpython(aside, python, progress)


def _check_wheel(wheel: Path) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != TRITON_WHEEL_SHA256:
        raise InstallationError(
            f"{wheel.name} has SHA-256 {found}, expected {TRITON_WHEEL_SHA256}: "
            "the package index or a proxy handed out another file; nothing was installed"
        )


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR:")), "".join(lines[-1:]))
        raise InstallationError(
            f"the embedded Triton cannot be set up: {what}: {reason.removeprefix('ERROR: ')}; "
            "connect to a package index (or set PIP_FIND_LINKS to a folder of wheels) and try again"
        )


@contextmanager
def _locked(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that is setting up the embedded Triton")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
