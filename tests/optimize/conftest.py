"""Captured and converted once for all tests of the package."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def captured(store):
    import example_rankers

    from optimize.capture import capture

    return capture(example_rankers.tiny(), store, candidates=(1, 37))


@pytest.fixture(scope="session")
def onnx_artifact(captured, store):
    from optimize.build import run_stage

    return run_stage("export_onnx", {}, captured, store)
