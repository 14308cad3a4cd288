"""benchmarks.md comes from results files and from nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.latencies import record
from bench.measurement import load_measurements, save_measurements
from bench.report import results_page
from bench.tables import PRINTED_QUANTILES, number_text
from rankers.errors import UserError

PROJECT = Path(__file__).parents[2]
GPU = {"name": "g", "kind": "ranker", "device": "cuda", "instances": 1}


@pytest.fixture
def results(make_measurement, tmp_path) -> Path:
    random = np.random.default_rng(5)
    runs = [
        make_measurement(random.exponential(0.003, 5000)),
        make_measurement(random.exponential(0.001, 200), command="python -m bench run b"),
    ]
    save_measurements(runs, tmp_path / "one.json")
    save_measurements([make_measurement(steal_share=0.2)], tmp_path / "two.json")
    return tmp_path


def figures_of(measurement):
    """Every figure a results file gives, as it may be printed."""
    yield from map(number_text, (measurement.requests_per_s, measurement.candidates_per_s))
    found = (measurement.percentile(quantile) for quantile in PRINTED_QUANTILES)
    for each in filter(None, found):
        for microseconds in (each.value_us, each.low_us, each.high_us):
            yield number_text(microseconds / 1e3)


def assert_figures_come_from(page: str, results: Path) -> None:
    known = {
        figure
        for path in results.glob("*.json")
        for each in load_measurements(path)
        for figure in figures_of(each)
    }
    rows = [
        line
        for line in page.splitlines()
        if line.startswith("| ") and not line.startswith(("| target", "| ---"))
    ]
    cells = [cell for row in rows for cell in row.split("|")[2:]]
    assert {figure for cell in cells for figure in re.findall(r"\d[\d.,]*", cell)} <= known


def test_every_figure_is_found_in_a_results_file(results):
    page = results_page(results)
    assert page.count("| a") == 3
    assert number_text(5000 / 4.0) in page
    assert_figures_come_from(page, results)


def test_a_figure_that_no_file_gives_is_noticed(results):
    page = results_page(results) + "\n| a | 123.456 |\n"
    with pytest.raises(AssertionError):
        assert_figures_come_from(page, results)


def test_void_rows_are_marked_and_say_why(results):
    page = results_page(results)
    assert "| a (void) |" in page
    assert "20.0% of CPU time was stolen" in page
    assert "send 368 or more" in page


def test_percentiles_below_their_floor_are_not_printed(results):
    row = next(line for line in results_page(results).splitlines() if "| - |" in line)
    assert row.startswith("| a (void)")


def test_each_command_is_there_once(results):
    page = results_page(results)
    assert page.count("python -m bench run a\n") == 1
    assert page.count("python -m bench run b\n") == 1


def test_without_gpu_results_that_section_says_not_run(results):
    cpu, gpu = results_page(results).split("## GPU")
    assert "Not run" in gpu
    assert "Not run" not in cpu


def test_gpu_results_have_their_section(make_measurement, tmp_path):
    save_measurements([make_measurement(target=GPU)], tmp_path / "gpu.json")
    cpu, gpu = results_page(tmp_path).split("## GPU")
    assert "Not run" in cpu
    assert "| g |" in gpu


def test_it_does_not_depend_on_the_order_of_files(results):
    before = results_page(results)
    data = (results / "one.json").read_bytes()
    (results / "one.json").unlink()
    (results / "one.json").write_bytes(data)
    assert results_page(results) == before


def test_a_broken_file_is_named(results):
    (results / "broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken\.json"):
        results_page(results)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        results_page(tmp_path / "nowhere")


def test_the_committed_page_is_what_the_committed_results_give():
    page = (PROJECT / "benchmarks.md").read_text()
    assert page == results_page(PROJECT / "bench" / "results")
    assert_figures_come_from(page, PROJECT / "bench" / "results")


def test_lag_of_an_empty_run_is_no_figure(make_measurement, tmp_path):
    failed = make_measurement(np.empty(0), lag=record(np.empty(0)), duration_s=0.0)
    save_measurements([failed], tmp_path / "failed.json")
    assert "| a (void) | - | - | - | 0 | 0 |" in results_page(tmp_path)
