"""benchmarks.md comes from results files and from nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bench.attribution import mean_splits
from bench.latencies import record
from bench.report import results_page
from bench.results_file import load_results, save_measurements, save_results
from bench.tables import number_text
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


def figures_of(data):
    """Every number in a results file, in each of the ways in which it may be printed."""
    if isinstance(data, dict | list):
        for each in data.values() if isinstance(data, dict) else data:
            yield from figures_of(each)
    elif isinstance(data, int | float) and not isinstance(data, bool):
        for value in (data, data / 1e3, data / 1e6):  # as it is, µs in ms, bytes in MB
            yield from (number_text(value), f"{value:.1f}", f"{value:.2g}", f"{value:.4f}")
            yield from (f"{value:.3f}", f"{value:+.1g}", f"{value:g}")


def assert_figures_come_from(page: str, results: Path) -> None:
    files = [load_results(path) for path in results.glob("*.json")]
    known = {
        figure.lstrip("+-")
        for each in files
        for figure in figures_of(json.loads(json.dumps(each.found.to_json())))
    }
    for each in files:
        for mean in mean_splits(getattr(each.found, "splits", ())).values():
            known.update(figures_of([*asdict(mean).values(), mean.total_us]))
            known.update(f"{part / mean.total_us:.0%}"[:-1] for part in asdict(mean).values())
    names = {each.name for file in files for each in file.found.measurements}
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    # A heading is followed by a line of dashes.
    bodies = [row for row, after in zip(rows, [*rows[1:], ""], strict=True) if "---" not in after]
    cells = [cell for row in bodies if "---" not in row for cell in row.split("|")[2:]]
    for cell in cells:
        text = re.sub("|".join(map(re.escape, sorted(names, key=len, reverse=True))), "", cell)
        figures = re.findall(r"\d[\d.,]*(?:e[+-]\d+)?", re.sub(r"\bp\d+", "", text))
        assert set(figures) <= known, cell


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


@pytest.fixture
def every_kind(found_of, tmp_path) -> Path:
    for name, found in found_of.items():
        save_results(found, tmp_path / f"{name}.json")
    return tmp_path


class TestEveryKind:
    def test_has_its_tables_and_no_figure_of_elsewhere(self, every_kind):
        page = results_page(every_kind)
        assert_figures_come_from(page, every_kind)
        for said in (
            "#### Comparison: a and b (compare.json)",
            "| b | p50 | 0.510 (0.450 to 0.580) | -0.700 (-0.800 to -0.600) | faster |",
            "p99 ≤ 20 ms holds up to 100 requests/s: a remark.",
            "| closed loop, N = 100 |",
            "closed loop, p50: b from 1 to 100.",
            "p50: 2 x 1, 0 us (2 times); deploy --instances 2 --threads 1 --max-queue-delay-us 0.",
            "| a | 6.3 MB | 0.7811 |",
        ):
            assert said in page

    def test_has_below_its_tables_the_command_that_makes_every_line(self, every_kind):
        page = results_page(every_kind)
        parts = page.split("\n#### ")[1:]
        assert len(parts) == len(list(every_kind.glob("*.json")))
        for part in parts:
            last_row = part.rindex("\n| ")
            assert "Every line by:\n\n```\npython -m bench run a\n```" in part[last_row:]

    def test_without_a_command_is_refused_by_name(self, make_measurement, tmp_path):
        save_measurements([make_measurement(command="")], tmp_path / "nobody.json")
        with pytest.raises(UserError, match=r"nobody\.json: .* does not say which command"):
            results_page(tmp_path)


def test_runs_of_one_command_stand_together_above_it(results):
    page = results_page(results)
    assert page.count("python -m bench run a\n") == 2  # two files
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
