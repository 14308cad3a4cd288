"""Every path is held against float64 first; what is wrong is not timed, what fails ends alone."""

import json
import sys

import pytest

from bench.gpu import worker
from bench.gpu.cells import (
    ALL_PARTS,
    BAGS,
    DOTS,
    FUSED,
    FUSED_KERNEL,
    GATHER,
    LIMITS,
    PARTS,
    SERVED,
    Cell,
    plan,
)
from bench.gpu.floors import Work, floor_us, work_at, work_of
from bench.gpu.kernels import summary
from bench.gpu.rankers import make_ranker
from bench.gpu.report import _served
from bench.gpu.served import SHARES
from bench.gpu.timing import Times, wall_times
from bench.gpu.worker import Settings, run
from optimize.samples import sample_requests

GRAPHS = Cell("graphs", "deepfm", "flat", "cuda graphs", "fp32")
CEILINGS = {"copy_bytes_per_s": 1e9, "launch_us": 2.0} | {f"{x}_flops_per_s": 1e9 for x in LIMITS}
SETTINGS = Settings("cpu", (1, 9), quick=True, parts=ALL_PARTS, ceilings=CEILINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("suite")


def events_of(cells, folder):
    path = folder / "events"
    path.write_text("")
    run(cells, SETTINGS, path, folder / "programs")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_failing_cell_ends_alone_and_the_next_is_measured_at_every_size(folder):
    nothing = Cell("graphs", "deepfm", "flat", "no such runtime, but cuda graphs", "fp33")
    events = events_of([nothing, GRAPHS], folder)
    ends = {each["cell"]: each for each in events if each["event"] == "ended"}
    assert ends[nothing.name]["status"] == "failed"
    assert "fp33" in ends[nothing.name]["why"]
    assert ends[GRAPHS.name]["status"] == "ok"
    correctness, *rows = [each for each in events if each["event"] == "rows"]
    assert correctness["correctness"]["error_in_deviations"] < LIMITS["fp32"]
    assert [each["rows"] for each in rows] == [1, 9]
    for each in rows:
        assert each["with_copies"]["count"] > 0
        assert each["on_device"]["p50_us"] > 0
        assert each["kernels"]["kernels"] > 10
        assert each["floor"]["times_floor"] > 0


@pytest.mark.end_to_end
def test_a_served_cell_is_held_against_float64_and_then_loaded(folder):
    cell = Cell(SERVED, "deepfm", "flat", "served", "fp32")
    events = events_of([cell], folder)
    assert events[-1]["status"] == "ok", events[-1]["why"]
    _, correctness, *rows, _ = events
    assert correctness["correctness"]["error_in_deviations"] < LIMITS["fp32"]
    assert [each["rows"] for each in rows] == [1, 9]
    for each in rows:
        assert each["with_copies"]["p50_us"] > 0
        rate = each["closed_loop"]["requests_per_s"]
        assert [load["rate_per_s"] / rate for load in each["open_loop"]] == pytest.approx(SHARES)
        assert all(load["response"]["count"] >= 10 for load in each["open_loop"])
    cells = [cell.to_json() | {"status": "ok", "why": "", "rows": rows}]
    assert [line[2] for line in _served(cells).rows] == ["1", "9"]


def test_a_served_cell_says_what_a_bare_machine_lacks(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    events = events_of([Cell(SERVED, "deepfm", "flat", "served", "fp32")], folder)
    assert events[-1]["status"] == "not run"
    assert events[-1]["why"] == "not installed: tritonclient; pip install -e . brings them"


def test_wrong_scores_are_not_timed(folder, monkeypatch):
    exact = worker.double_scores
    monkeypatch.setattr(
        worker, "double_scores", lambda *given: [each + 1e-3 for each in exact(*given)]
    )
    events = events_of([GRAPHS], folder)
    assert events[-1]["status"] == "wrong"
    assert "of their deviation; the limit is 0.001" in events[-1]["why"]
    assert not any("with_copies" in each for each in events)


def test_the_fused_kernel_and_its_twin_are_held_against_float64_too(folder, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    cells = [
        Cell(FUSED, operation, "flat", runtime, "int4")
        for operation in (DOTS, GATHER, BAGS)
        for runtime in (FUSED_KERNEL, "twin, eager")
    ]
    events = events_of(cells, folder)
    sys.modules.pop("optimize.kernels.lookup_dots_kernel", None)
    ends = {each["cell"]: each for each in events if each["event"] == "ended"}
    assert {each["status"] for each in ends.values()} == {"ok"}
    assert sum("rows" in each for each in events) == len(cells) * len(SETTINGS.rows)
    for each in cells:
        told = each.ranker != DOTS and each.runtime == FUSED_KERNEL
        assert ("of the copy bandwidth" in ends[each.name]["why"]) == told


def test_wrong_values_of_the_fused_kernel_are_not_timed(folder, monkeypatch):
    from optimize.kernels import lookup_dots

    exact = lookup_dots.lookup_vectors_reference
    monkeypatch.setattr(
        lookup_dots, "lookup_vectors_reference", lambda *given: exact(*given) + 0.01
    )
    events = events_of([Cell(FUSED, BAGS, "flat", "twin, eager", "int8")], folder)
    assert events[-1]["status"] == "wrong"
    assert not any("with_copies" in each for each in events)


def test_a_ranker_with_fused_lookups_is_held_against_float64_as_others(folder):
    fused = Cell("fused rankers", "deepfm", "flat", "cuda graphs, fused lookups", "fp32")
    events = events_of([GRAPHS, fused], folder)
    assert [each["status"] for each in events if each["event"] == "ended"] == ["ok", "ok"]
    operators = {each["cell"]: each["kernels"]["kernels"] for each in events if "kernels" in each}
    assert operators[fused.name] < operators[GRAPHS.name]  # as many fewer as were fused


class TestPlan:
    def test_no_two_cells_have_one_name_and_all_parts_have_cells(self):
        cells = plan()
        assert len({each.name for each in cells}) == len(cells)
        assert [*dict.fromkeys(each.part for each in cells)] == [FUSED, *PARTS]

    def test_the_base_is_measured_in_fp32_alone(self):
        base = [each for each in plan() if each.runtime == "onnxruntime cpu"]
        assert base
        assert {each.precision for each in base} == {"fp32"}

    def test_parts_rankers_and_precisions_can_be_chosen(self):
        (only,) = plan(("aoti",), ("deepfm",), ("bf16",))
        assert only == Cell("aoti", "deepfm", "flat", "aoti", "bf16")


class TestNumbers:
    def test_a_floor_is_the_slower_of_moving_and_computing_and_a_launch(self):
        work = Work(flops=3000, table_bytes=1000, weights=500, io_bytes=100)
        found = floor_us(work, "fp16", CEILINGS)
        assert found["bytes_us"] == pytest.approx(2.1)  # weights in two bytes
        assert found["flops_us"] == pytest.approx(3.0)
        assert found["floor_us"] == pytest.approx(5.0)

    def test_work_for_more_rows_is_as_it_would_be_counted(self):
        module, signature = make_ranker("deepfm", quick=True)
        counted = [work_of(module, sample_requests(signature, [n]).flat()) for n in (8, 16, 50)]
        assert work_at(*counted[:2], (8, 16), 50) == counted[2]
        width = module.embedding.tables["item_0"].embedding_dim
        assert counted[0].table_bytes == 8 * 26 * (1 + width) * 4  # a weight and a vector for each
        assert counted[0].flops > 0

    def test_kernels_that_overlap_are_busy_once_and_gaps_are_between_them(self):
        spans = [(0.0, 4.0), (2.0, 5.0), (7.0, 8.0), (7.2, 7.5)]
        assert summary(spans, 2) == {"kernels": 2.0, "busy_us": 3.0, "gaps_us": 1.0}
        assert summary([], 2) == {"kernels": 0.0, "busy_us": 0.0, "gaps_us": 0.0}

    def test_a_p99_of_too_few_calls_is_not_told(self):
        assert Times.of(range(472)).p99_us is None
        assert Times.of(range(1000)).p99_us == 990

    def test_calls_take_turns(self):
        seen = []
        wall_times([lambda: seen.append(0), lambda: seen.append(1)], seconds=60, count=6)
        assert seen[-6:] == [0, 1, 0, 1, 0, 1]
