"""Which distribution of a library is here, told from real dist-info folders on ``sys.path``."""

import sys

import pytest

from optimize.triton.machine import InstallationError, server_runtimes
from optimize.versions import installed_distribution, library_versions, missing_library


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An environment of its own: ``put(name, version)`` installs a distribution into it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    def put(name, version):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if name.startswith("onnxruntime"):  # as both do, into the same file
            stated = tmp_path / "onnxruntime/capi/build_and_package_info.py"
            stated.parent.mkdir(parents=True, exist_ok=True)
            stated.write_text(f"package_name = '{name}'\n__version__ = '{version}'\n")

    return put


CPU, GPU = ("onnxruntime", "1.32.0"), ("onnxruntime-gpu", "1.31.1")


@pytest.mark.parametrize(
    ("installed", "expected"),
    [([CPU], CPU), ([GPU], GPU), ([CPU, GPU], GPU), ([GPU, CPU], CPU), ([], None)],
)
def test_of_two_names_it_is_the_one_whose_files_are_there(installed, expected, site):
    for each in installed:
        site(*each)
    assert installed_distribution("onnxruntime") == expected


def test_the_build_for_gpus_counts_as_the_library(site):
    site(*GPU)
    assert missing_library(["onnxruntime"]) is None
    assert library_versions("onnxruntime")["onnxruntime"] == GPU[1]


def test_a_tensorrt_without_and_with_the_number_of_its_cuda_is_one_library(site):
    site("tensorrt-cu13", "10.15.0")
    assert installed_distribution("tensorrt") == ("tensorrt-cu13", "10.15.0")
    site("tensorrt", "10.15.1")
    assert installed_distribution("tensorrt") == ("tensorrt", "10.15.1")


def test_the_server_gets_the_runtimes_that_are_here(site):
    site(*GPU)
    assert server_runtimes() == {GPU[0]: GPU[1]}
    site("openvino", "2026.4.1")
    assert server_runtimes() == {GPU[0]: GPU[1], "openvino": "2026.4.1"}


def test_without_onnx_runtime_no_server_is_set_up(site):
    site("openvino", "2026.4.1")
    with pytest.raises(InstallationError, match="pip install onnxruntime, or onnxruntime-gpu"):
        server_runtimes()
