from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.triton import installation
from optimize.triton.installation import install
from optimize.triton.machine import InstallationError, torch_path


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RANKSERVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "triton"


def test_is_found_again_once_it_is_there():
    first = install()
    told = []
    assert install(told.append) == first
    assert not told


def test_has_an_environment_of_its_own_with_the_same_onnxruntime():
    import onnxruntime

    code = "import numpy, onnxruntime; print(numpy.__version__, onnxruntime.__version__)"
    found = install()
    done = subprocess.run(
        [found.folder / "env" / "bin" / "python3", "-c", code],
        env=found.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    numpy, runtime = done.stdout.split()
    assert numpy.startswith("1.")
    assert runtime == onnxruntime.__version__


def test_says_where_torch_and_rankserve_are_without_putting_them_on_its_own_path():
    found = install().environment()
    folders = found[installation.TORCH_PATH].split(os.pathsep)
    for package in ("torch", "optimize", "rankers"):
        assert any(Path(each, package, "__init__.py").is_file() for each in folders)
    # torch would take such a folder for the compiler of that name.
    strange = [Path(each, "triton") for each in folders]
    assert not [each for each in strange if each.is_dir() and not (each / "__init__.py").is_file()]
    assert "PYTHONPATH" not in found
    assert torch_path(sys.version_info.minor + 1) == []


def test_of_the_callers_libraries_only_the_gpu_driver_is_kept(tmp_path, monkeypatch):
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "libcuda.so.1").touch()
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path / 'other'}:{tmp_path / 'driver'}:")
    found = install()
    kept = found.environment()["LD_LIBRARY_PATH"].split(":")
    assert kept == [str(found.folder / "lib"), str(tmp_path / "driver")]


def test_without_a_package_index_says_so_in_a_line_and_leaves_nothing(empty_cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty_cache))
    with pytest.raises(InstallationError, match="cannot be set up: pip cannot install") as caught:
        install()
    assert "\n" not in str(caught.value)
    assert "connect to a package index" in str(caught.value)
    assert [each.name for each in empty_cache.iterdir()] == ["lock"]


def test_refuses_a_wheel_that_is_another_file(tmp_path):
    wheel = tmp_path / "nvidia_pytriton.whl"
    wheel.write_bytes(b"something else")
    with pytest.raises(InstallationError, match="expected 21f063ff"):
        installation._check_wheel(wheel)


@pytest.mark.parametrize(
    ("libc", "said"),
    [("glibc 2.31", "this machine has glibc 2.31"), (None, "this machine has ")],
)
def test_refuses_an_old_libc(empty_cache, monkeypatch, libc, said):
    monkeypatch.setattr(os, "confstr", lambda _: libc)
    with pytest.raises(InstallationError, match=f"needs glibc 2.35 or newer; {said}"):
        install()


def test_refuses_another_machine(empty_cache, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(InstallationError, match="this is Linux aarch64: use Dockerfile"):
        install()
