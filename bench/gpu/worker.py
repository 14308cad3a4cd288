"""One child of the suite: works through cells in order and writes what it finds line by line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.gpu.cells import FUSED, KERNELS, LIMITS, SERVED, Cell
from bench.gpu.floors import Work, floor_us, work_at, work_of
from bench.gpu.rankers import double_scores, make_ranker
from optimize.samples import sample_requests
from rankers.errors import in_one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.gpu.paths import Opened
    from optimize.artifact import Artifact
    from rankers.requests import Columns, RequestBatch

_POOL = 8  # different requests of each size
_MOST_COMPARED = 200
_WORK_ROWS = (8, 16)
_TOO_LONG_US = 1e6
_SERVED_TIMES = 3  # as long: a server's requests are fewer in a second


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is done.

    Attributes:
        device: ``cpu`` or ``cuda``.
        rows: The numbers of candidates.
        quick: Small rankers and few calls, which say nothing of the device.
        parts: Of `bench.gpu.cells.ALL_PARTS`.
        ceilings: What was measured of the device; may be empty.
    """

    device: str
    rows: tuple[int, ...]
    quick: bool
    parts: tuple[str, ...]
    ceilings: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """For each way to time a cell at one number of rows."""
        return 0.02 if self.quick else 0.7

    @property
    def count(self) -> int:
        """Of calls at most: enough for a p99."""
        return 20 if self.quick else 2000


@dataclass(frozen=True, slots=True)
class Built:
    """A ranker that cells share.

    Attributes:
        programs: By layout.
        requests: By number of candidates.
        expected: The float64 scores of the first one's rows in `_compared`.
        work: By number of candidates.
    """

    programs: dict[str, Artifact]
    requests: dict[int, list[RequestBatch]]
    expected: dict[int, Any]
    work: dict[int, Work]


def run(cells: Sequence[Cell], settings: Settings, events: Path, folder: Path) -> None:
    """Work through cells.

    Args:
        cells: Those of one ranker should follow each other.
        settings: How.
        events: Lines of JSON are appended, as `bench.gpu.isolation.run_cells` reads them.
        folder: An empty one for programs.
    """
    with events.open("a") as file:

        def tell(cell: Cell, event: str, **more: Any) -> None:
            file.write(json.dumps({"cell": cell.name, "event": event} | more) + "\n")
            file.flush()

        built: tuple[str, Built] | None = None
        for cell in cells:
            tell(cell, "started")
            try:
                if cell.part == FUSED:
                    from bench.gpu.fused import run_fused

                    status, why = run_fused(cell, settings, tell)
                    tell(cell, "ended", status=status, why=why)
                    continue
                if built is None or built[0] != cell.ranker:
                    built = None  # one ranker's tables at a time
                    built = (cell.ranker, _build(cell.ranker, settings))
                status, why = _run_cell(cell, built[1], settings, folder, tell)
            except Exception as error:  # noqa: BLE001 - of compilers, CUDA and torch: any kind
                status, why = "failed", in_one_line(error)
                _let_go(settings.device)
            tell(cell, "ended", status=status, why=why)


def _build(name: str, settings: Settings) -> Built:
    module, signature = make_ranker(name, quick=settings.quick)
    requests = {
        rows: [_request(signature, rows, seed) for seed in range(_POOL)] for rows in settings.rows
    }
    # Every size is compared, as each may run in kernels of its own, but of many rows a few: rows
    # score alone, and float64 on the CPU is slow.
    firsts = [_rows(pool[0].flat(), _compared(rows)) for rows, pool in requests.items()]
    expected = dict(zip(requests, double_scores(module, firsts), strict=True))
    few, more = (work_of(module, sample_requests(signature, [rows]).flat()) for rows in _WORK_ROWS)
    work = {rows: work_at(few, more, _WORK_ROWS, rows) for rows in settings.rows}
    built = Built({}, requests, expected, work)
    object.__setattr__(built, "programs", _Programs(module, signature))
    return built


class _Programs(dict[str, Any]):
    """Programs by layout, each exported when it is first asked for."""

    def __init__(self, module: Any, signature: Any) -> None:
        super().__init__()
        self._given = module, signature
        self._loaded: dict[str, Any] = {}

    def of(self, layout: str, folder: Path) -> Artifact:
        if layout not in self:
            from bench.gpu.paths import capture_program
            from optimize.artifact import MANIFEST, open_artifact

            # An earlier part may have left it: the same seed gives the same weights.
            there = (folder / MANIFEST).is_file()
            self[layout] = (
                open_artifact(folder) if there else capture_program(*self._given, layout, folder)
            )
        found: Artifact = self[layout]
        return found

    def loaded(self, layout: str, device: str) -> Any:
        """Return the program on the device, where all cells share its weights."""
        if layout not in self._loaded:
            from optimize.torch_program import load_program, program_on

            self._loaded[layout] = program_on(load_program(self[layout].model_path), device)
        return self._loaded[layout]


def _request(signature: Any, rows: int, seed: int) -> RequestBatch:
    """Return one request; `sample_requests` gives the same for the same size, so turn its rows."""
    drawn = sample_requests(signature, [rows + seed])
    one = sample_requests(signature, [rows])
    items = {name: column[seed : seed + rows] for name, column in drawn.items.items()}
    return type(one)(one.user, items, one.offsets)


def _run_cell(
    cell: Cell, built: Built, settings: Settings, folder: Path, tell: Any
) -> tuple[str, str]:
    from bench.gpu.paths import open_path

    programs: Any = built.programs
    program = programs.of(cell.layout, folder / f"{cell.ranker}-{cell.layout}")
    if cell.part == SERVED:
        from bench.gpu.served import run_served

        return run_served(
            cell, program, built.requests,
            lambda rows, scores: _error(scores, built.expected[rows], _compared(rows)),
            device=settings.device, seconds=_SERVED_TIMES * settings.seconds, tell=tell,
        )  # fmt: skip
    opened = open_path(
        cell, program, programs.loaded(cell.layout, settings.device), settings.device, settings.rows
    )
    columns_of = program.manifest.columns_of
    columns = {
        rows: [_contiguous(columns_of(each)) for each in pool]
        for rows, pool in built.requests.items()
    }
    worst = 0.0
    for rows, expected in built.expected.items():
        worst = max(worst, _error(opened.score(columns[rows][0]), expected, _compared(rows)))
    limit = LIMITS[cell.precision]
    tell(cell, "rows", correctness={"error_in_deviations": worst, "limit": limit})
    if not worst <= limit:
        # Nothing wrong is timed.
        return "wrong", f"scores are off by {worst:.2g} of their deviation; the limit is {limit:g}"
    for rows in settings.rows:
        found = _measure(cell, opened, columns[rows], built, settings)
        tell(cell, "rows", rows=rows, **found)
        if found["with_copies"]["p50_us"] > _TOO_LONG_US and rows != settings.rows[-1]:
            return "ok", f"a call of {rows} rows took over a second: larger ones were left out"
    return "ok", ""


def _compared(rows: int) -> Any:
    """Return which rows are compared: all, or some from the first to the last."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _MOST_COMPARED)).round().astype(np.int64))


def _rows(columns: Columns, rows: Any) -> Columns:
    return {name: np.ascontiguousarray(each[rows]) for name, each in columns.items()}


def _error(scores: Any, expected: Any, rows: Any) -> float:
    """Return the largest difference in standard deviations of the float64 scores."""
    scores = scores.astype(np.float64)[rows]
    if scores.shape != expected.shape or not np.isfinite(scores).all():
        return float("inf")
    largest = float(np.abs(scores - expected).max())
    # Of one score alone there is no deviation: a probability's is about a quarter.
    return largest / (float(expected.std()) if len(expected) > 1 else 0.25)


def _measure(
    cell: Cell, opened: Opened, pool: list[Columns], built: Built, settings: Settings
) -> dict[str, Any]:
    from bench.gpu.timing import calls_per_second, event_times, wall_times

    rows = len(next(iter(pool[0].values()))) if cell.layout == "flat" else _rows_of(pool[0])
    given: Any = {"seconds": settings.seconds, "count": settings.count}
    calls = [lambda each=each: opened.score(each) for each in pool]
    found: dict[str, Any] = {"with_copies": wall_times(calls, **given).to_json()}
    if opened.resident is not None:
        resident = _resident(opened, pool)
        found["on_device"] = event_times(resident, opened.device, **given).to_json()
        rate = calls_per_second(resident, opened.device, seconds=settings.seconds)
        found["rows_per_s"] = rate * rows
        if KERNELS in settings.parts:
            from bench.gpu.kernels import kernels_of

            found["kernels"] = kernels_of(resident[0], opened.device)
    work = built.work[rows]
    if settings.ceilings and cell.layout == "flat" and opened.device == settings.device:
        floor = floor_us(work, cell.precision, settings.ceilings)
        took = found.get("on_device", found["with_copies"])["p50_us"]
        found["floor"] = floor | {
            "times_floor": took / floor["floor_us"],
            "bytes_per_s": work.bytes_at(cell.precision) / took * 1e6,
            "flops_per_s": work.flops / took * 1e6,
        }
    return found


def _resident(opened: Opened, pool: list[Columns]) -> list[Any]:
    """Return calls with data on the device; a graph holds one request's at a time."""
    if opened.resident is None:
        raise AssertionError("asked for where there is none")
    return [opened.resident(each) for each in pool]


def _rows_of(columns: Columns) -> int:
    from rankers.requests import ITEM_TO_REQUEST

    return len(columns[ITEM_TO_REQUEST])


def _contiguous(columns: Columns) -> Columns:
    return {name: np.ascontiguousarray(each) for name, each in columns.items()}


def _let_go(device: str) -> None:
    """Give memory back after a failure, so that the next cell does not fail for it."""
    import gc

    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()
