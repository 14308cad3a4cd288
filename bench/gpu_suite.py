"""Every GPU path against float64, then its times: one command on a bare machine with a GPU.

::

    python -m bench.gpu_suite --out bench/results/gpu/NAME.json
    python -m bench.gpu_suite --device cpu --quick --rankers dlrm    # a smoke test of the code

Needs Python, NumPy, torch and safetensors, and onnx, onnxscript and onnxruntime for the base; no
network. ``served``, the last part, needs all of rankserve, and the embedded server, which is set up
once. What is found is written as it comes: a run that is cut keeps what it has.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.gpu.cells import (
    ALL_PARTS,
    CEILINGS,
    LIMITS,
    QUICK_ROWS,
    RANKERS,
    ROWS,
    SERVED,
    Cell,
    plan,
)
from rankers.errors import UserError, nearest
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND, SCHEMA = "rankserve-gpu-suite", 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; 0 if every cell that ran was right, 1 if one was wrong, 2 for wrong use."""
    given = _parser().parse_args(arguments)
    if given.worker:
        return _work(given.worker)
    try:
        return _run(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command line of its own
        return 2


def _parser() -> argparse.ArgumentParser:
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_suite", description=about)
    parser.add_argument("--out", type=Path, default=Path("build/gpu-suite.json"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small, as a smoke test of the code")
    parser.add_argument("--minutes", type=float, default=8.5, help="for everything [8.5]")
    parser.add_argument("--cell-seconds", type=float, default=120, help="for one cell [120]")
    parser.add_argument("--only", default=",".join(ALL_PARTS), help="parts, with commas between")
    parser.add_argument("--rankers", default=",".join(RANKERS), help="of the zoo")
    parser.add_argument("--precisions", default=",".join(LIMITS))
    parser.add_argument("--rows", default="", help=f"candidates [{','.join(map(str, ROWS))}]")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser


def _run(given: argparse.Namespace) -> int:
    from bench.gpu.isolation import Budget, run_cells
    from optimize.devices import require_device

    until = time.monotonic() + 60 * given.minutes
    require_device(given.device)
    parts = _named(given.only, ALL_PARTS, "--only")
    rankers = _named(given.rankers, RANKERS, "--rankers")
    precisions = _named(given.precisions, tuple(LIMITS), "--precisions")
    rows = _rows(given.rows) if given.rows else (QUICK_ROWS if given.quick else ROWS)
    cells = {each.name: each for each in plan(parts, rankers, precisions)}
    results = _Results(given.out, _about(given, rows), cells)
    ceilings: dict[str, float] = {}
    if CEILINGS in parts:
        from bench.gpu.ceilings import measure_ceilings

        ceilings = measure_ceilings(given.device, quick=given.quick)
        results.put("ceilings", ceilings)
    if SERVED in parts:
        _set_up_server()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            "device": given.device,
            "rows": rows,
            "quick": given.quick,
            "parts": parts,
            "ceilings": ceilings,
        }

        def command(left: Sequence[str]) -> list[str]:
            job = {"settings": settings, "cells": [cells[each].to_json() for each in left]}
            job |= {"events": str(folder / "events"), "folder": tempfile.mkdtemp(dir=folder)}
            (folder / "job.json").write_text(json.dumps(job))
            return [sys.executable, "-m", "bench.gpu_suite", "--worker", str(folder / "job.json")]

        budget = Budget(until, given.cell_seconds)
        log = given.out.with_suffix(".log")
        log.write_bytes(b"")
        run_cells(list(cells), command, budget, results.told, events=folder / "events", log=log)
    results.put("complete", True)
    return 1 if any(each["status"] == "wrong" for each in results.cells) else 0


def _set_up_server() -> None:
    """Set the embedded server up before any cell's time runs; without it those cells say why."""
    from bench.gpu.served import missing_parts

    if missing_parts():
        return
    from optimize.triton.installation import install

    try:
        install(print)
    except UserError as error:
        print(f"the part {SERVED} will fail: {error}", file=sys.stderr)  # noqa: T201


def _work(job: Path) -> int:
    """Be a child: work through the cells of a job."""
    from bench.gpu.worker import Settings, run

    data = json.loads(job.read_bytes())
    settings = data["settings"] | {
        name: tuple(data["settings"][name]) for name in ("rows", "parts")
    }
    cells = [Cell(**each) for each in data["cells"]]
    run(cells, Settings(**settings), Path(data["events"]), Path(data["folder"]))
    return 0


class _Results:
    """The results file: written anew with everything that comes."""

    def __init__(self, path: Path, about: dict[str, Any], cells: dict[str, Cell]) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._data = about | {"complete": False, "ceilings": {}, "cells": []}
        self._by_name = {
            name: cell.to_json() | {"status": "not run", "why": "", "correctness": None, "rows": []}
            for name, cell in cells.items()
        }
        self._data["cells"] = list(self._by_name.values())
        self._write()

    @property
    def cells(self) -> list[dict[str, Any]]:
        """What is known of each cell."""
        return list(self._by_name.values())

    def put(self, name: str, value: Any) -> None:
        self._data[name] = value
        self._write()

    def told(self, event: dict[str, Any]) -> None:
        """Take an event of `bench.gpu.isolation.run_cells`."""
        name, kind = event["cell"], event["event"]
        cell = self._by_name[name]
        found = {key: value for key, value in event.items() if key not in ("cell", "event")}
        if kind == "rows" and "correctness" in found:
            cell["correctness"] = found["correctness"]
        elif kind == "rows":
            cell["rows"].append(found)
        elif kind == "ended":
            cell |= found
            said = f"{found['status']:8} {name}"
            print(f"{said}  {found['why']}" if found["why"] else said, flush=True)  # noqa: T201
        self._write()

    def _write(self) -> None:
        write_atomically(self._path, json.dumps(self._data, indent=1) + "\n")


def _about(given: argparse.Namespace, rows: Sequence[int]) -> dict[str, Any]:
    """Return when, where and by which command: without them a number says nothing."""
    import torch

    from bench.environment import environment

    here = environment().to_json()
    on_gpu = given.device == "cuda"
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": f"python -m bench.gpu_suite {shlex.join(_own_arguments(given))}".rstrip(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "quick": given.quick,
        "rows": list(rows),
        "environment": here | {"cuda": torch.version.cuda or "none"},
    }


def _own_arguments(given: argparse.Namespace) -> list[str]:
    defaults = vars(_parser().parse_args([]))
    found = []
    for name, value in vars(given).items():
        if value == defaults[name] or name == "out":
            continue
        flag = f"--{name.replace('_', '-')}"
        found += [flag] if value is True else [flag, str(value)]
    return found


def _named(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    chosen = [each.strip() for each in text.split(",") if each.strip()]
    for each in chosen:
        if each not in known:
            raise UserError(f"{option} names {each!r}; {nearest(each, known)}")
    return tuple(each for each in known if each in chosen)


def _rows(text: str) -> tuple[int, ...]:
    parts = [each.strip() for each in text.split(",")]
    if not all(each.isdigit() and int(each) >= 1 for each in parts):
        raise UserError(f"--rows is {text!r}; expected whole numbers from 1, such as 1,200")
    return tuple(sorted({int(each) for each in parts}))


if __name__ == "__main__":
    sys.exit(main())
