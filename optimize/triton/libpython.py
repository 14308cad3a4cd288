"""The libpython that the server's stub is linked against: this Python's, or the distribution's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.triton.machine import InstallationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.triton.installation import ServerInstallation


def provide_libpython(
    aside: ServerInstallation, python: str, progress: Callable[[str], None]
) -> None:
    """Put the libpython that the stub is linked against where its loader looks, and try it.

    Args:
        aside: The server, unpacked.
        python: The interpreter that its environment is made of.
        progress: Is told in a line what is fetched.

    Raises:
        InstallationError: There is none, and the distribution's cannot be fetched.
    """
    name = f"libpython3.{aside.minor}.so.1.0"
    lib = aside.folder / "lib"
    lib.mkdir()
    # The interpreter's own library comes first: another patch release may not fit its modules.
    asked = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR') or '')"],
        capture_output=True,
        text=True,
        check=False,
    )
    own = Path(asked.stdout.strip()) / name
    if own.is_file():
        (lib / name).symlink_to(own)
    if _stub_starts(aside):
        return
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        progress(f"fetching {name} from the distribution")
        _unpack_debian_libpython(aside, lib, name)
    if not _stub_starts(aside):
        raise InstallationError(
            f"the embedded Triton needs {name}, which this Python was built without: install the "
            f"distribution's libpython3.{aside.minor}, or use a Python built with --enable-shared"
        )


def _stub_starts(aside: ServerInstallation) -> bool:
    """Whether the loader finds every library of the stub; without arguments it only complains."""
    tried = subprocess.run(
        [aside.stub], env=aside.environment(), capture_output=True, check=False, timeout=60
    )
    return tried.returncode != 127


def _unpack_debian_libpython(aside: ServerInstallation, lib: Path, name: str) -> None:
    downloads = aside.folder / "downloads"
    downloads.mkdir()
    package = f"libpython3.{aside.minor}"
    subprocess.run(
        [shutil.which("apt-get") or "apt-get", "download", package],
        cwd=downloads,
        capture_output=True,
        check=False,
        timeout=300,
    )
    for archive in downloads.glob("*.deb"):
        subprocess.run(
            [shutil.which("dpkg-deb") or "dpkg-deb", "-x", archive, downloads / "root"],
            capture_output=True,
            check=False,
        )
    for found in (downloads / "root").rglob(name):
        shutil.copyfile(found, lib / name)
    shutil.rmtree(downloads)
