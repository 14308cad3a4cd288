"""The GPU suite's part of benchmarks.md: from its results files, and from nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.gpu.cells import BAGS, GATHER, LEAST_OF_COPY
from bench.tables import Table
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDER = "gpu"
_RULE = (
    "A number of a GPU counts only with the date, the GPU, the driver and the versions that its "
    "file names; what stands here without such a file was not run on one."
)


def gpu_section(results: Path) -> str:
    """Return the section of the suite's files in ``RESULTS/gpu/``, by name.

    Raises:
        UserError: A file is damaged, something else, or of a quick run, which says nothing.
    """
    paths = sorted((results / FOLDER).glob("*.json"))
    if not paths:
        return (
            "### Suite\n\nNot run: there is no file in bench/results/gpu/. "
            f"`python -m bench.gpu_suite` makes one on a machine with a GPU. {_RULE}\n"
        )
    return "\n".join([f"### Suite\n\n{_RULE}\n", *(_file(path) for path in paths)])


def _file(path: Path) -> str:
    from bench.report import markdown  # which has this section in its page

    data = _load(path)
    here = data["environment"]
    gpus = ", ".join(f"driver {each['driver_version']}" for each in here["gpu"])
    versions = ", ".join(f"{name} {value}" for name, value in sorted(here["versions"].items()))
    whole = "" if data["complete"] else " It was cut before its end."
    parts = [
        f"#### {data['device']}, {data['date']} ({FOLDER}/{path.name})\n",
        f"{gpus}; CUDA {here['cuda']}; {versions}.{whole}\n",
    ]
    if data["ceilings"]:
        parts.append(f"Measured in the same run: {_ceilings(data['ceilings'])}.\n")
    measured = [each for each in data["cells"] if each["rows"]]
    if measured:
        parts.append(
            "p50 / p99 in milliseconds, all copies included, by candidates.\n\n"
            f"{markdown(_table(measured, data['rows'], _with_copies))}\n"
        )
        parts.append(
            "p50 in microseconds by the device's own events, no copies, and how many times the "
            "floor (bytes, operations and a launch at the rates above).\n\n"
            f"{markdown(_table(measured, data['rows'], _on_device))}\n"
        )
    parts += _gathers(measured)
    served = _served(measured)
    if served is not None:
        parts.append(
            "The embedded Triton server, asked over gRPC on the same machine: the rate of several "
            "callers that wait for their answers, then Poisson arrivals at shares of it, p50 / p99 "
            f"in milliseconds from when each was due.\n\n{markdown(served)}\n"
        )
    parts += _not_measured(data["cells"])
    parts.append("\n".join(["Every line by:\n", "```", data["command"], "```", ""]))
    return "\n".join(parts)


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
        kind, schema, quick = data["kind"], data["schema"], data["quick"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as the GPU suite's results: {error}") from error
    if (kind, schema) != ("rankserve-gpu-suite", 1):
        raise UserError(f"{path}: {kind} of schema {schema} is not the GPU suite's results")
    if quick or data["device"] == "cpu":
        raise UserError(f"{path}: a smoke test of the suite says nothing of a GPU: remove it")
    found: dict[str, Any] = data
    return found


def _ceilings(ceilings: dict[str, float]) -> str:
    rates = [
        f"{name.split('_')[0]} {value / 1e12:.3g} TFLOP/s"
        for name, value in ceilings.items()
        if name.endswith("_flops_per_s")
    ]
    copy = f"copy {ceilings['copy_bytes_per_s'] / 1e12:.3g} TB/s"
    small = ", ".join(
        f"{said} {ceilings[name]:.3g} µs"
        for name, said in (
            ("launch_us", "a launch"),
            ("there_us", "64 KiB to the device"),
            ("back_us", "and back"),
        )
    )
    return f"{copy}, {', '.join(rates)}, {small}"


def _table(cells: Sequence[dict[str, Any]], rows: Sequence[int], say: Any) -> Table:
    lines = []
    for cell in cells:
        by_rows = {each["rows"]: each for each in cell["rows"]}
        name = f"{cell['ranker']} {cell['layout'].replace('_', '-')}, {cell['runtime']}"
        said = [say(by_rows[each]) if each in by_rows else "-" for each in rows]
        lines.append((name, cell["precision"], *said))
    columns = ("ranker, runtime", "products", *(f"{each:,}" for each in rows))
    return Table(title="", columns=columns, rows=tuple(lines))


def _served(cells: Sequence[dict[str, Any]]) -> Table | None:
    """Return the open loop's times, a line for each cell and number of candidates."""
    lines, shares = [], []
    for cell in cells:
        for found in cell["rows"]:
            loads = found.get("open_loop")
            if loads is None:
                continue
            shares = [each["share"] for each in loads]
            name = f"{cell['ranker']} {cell['layout'].replace('_', '-')}"
            rate = f"{found['closed_loop']['requests_per_s']:,.0f}"
            said = [_with_copies({"with_copies": each["response"]}) for each in loads]
            lines.append((name, cell["precision"], f"{found['rows']:,}", rate, *said))
    if not lines:
        return None
    columns = ("ranker", "products", "candidates", "requests/s", *(f"at {x:.0%}" for x in shares))
    return Table(title="", columns=columns, rows=tuple(lines))


def _with_copies(found: dict[str, Any]) -> str:
    times = found["with_copies"]
    p99 = "-" if times["p99_us"] is None else f"{times['p99_us'] / 1000:.3g}"
    return f"{times['p50_us'] / 1000:.3g} / {p99}"


def _on_device(found: dict[str, Any]) -> str:
    if "on_device" not in found:
        return "-"
    floor = found.get("floor")
    times = "" if floor is None else f" ({floor['times_floor']:.3g})"
    return f"{found['on_device']['p50_us']:.3g}{times}"


def _gathers(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Return what gathers alone reach of the copy bandwidth, at their most rows."""
    lines = []
    for each in cells:
        last = max(each["rows"], key=lambda found: int(found["rows"]))
        share = last.get("floor", {}).get("of_copy_bandwidth")
        if share is not None and each["ranker"] in (GATHER, BAGS):
            lines.append(
                f"- {each['ranker']}, {each['runtime']}, rows of {each['precision']}: {share:.0%} "
                f"at {last['rows']:,} rows"
            )
    said = f"Of the copy bandwidth, of which the fused kernel is to reach {LEAST_OF_COPY:.0%}:\n"
    return ["\n".join([said, *lines, ""])] if lines else []


def _not_measured(cells: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        f"- {each['ranker']} {each['layout']} {each['runtime']} {each['precision']}: "
        f"{each['status']}{': ' + each['why'] if each['why'] else ''}."
        for each in cells
        if each["status"] != "ok"
    ]
    return ["\n".join(["Not measured, or not whole:\n", *lines, ""])] if lines else []
