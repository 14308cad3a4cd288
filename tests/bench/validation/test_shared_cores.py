"""Latencies with one thread and more, beside other work: what is measured, and the committed."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from bench.validation.shared_cores import busy_processes, measure_shared, row

ROOT = Path(__file__).parents[3]


def test_busy_processes_are_there_and_gone_afterwards():
    before = set(psutil.Process().children())  # of earlier tests
    with busy_processes(2):
        busy = set(psutil.Process().children()) - before
        assert len(busy) == 2
    assert not any(each.is_running() for each in busy)


def test_each_artifact_is_measured_alone_and_beside_as_many_as_there_are_cores(
    artifact, ranker_file
):
    found = measure_shared(
        f"{ranker_file}:ranker", [artifact.folder], candidates=5, rounds=1, seconds=0.1, cores=1
    )
    assert [(each["others"], each["threads"]) for each in found] == [(0, 1), (1, 1)]
    for each in found:
        assert each["format"] == "onnx"
        assert each["requests"] >= 20
        assert 0 < each["p50_ms"] <= each["p99_ms"] <= each["worst_ms"]


@pytest.fixture(scope="module")
def committed():
    return json.loads((ROOT / "bench/results/validation/shared-cores.json").read_text())


def test_the_page_on_runtimes_has_these_figures(committed):
    page = (ROOT / "docs" / "runtimes.md").read_text()
    assert [each for each in map(row, committed["measured"]) if each not in page] == []
