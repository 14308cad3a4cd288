"""A diagnosis as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from optimize.diagnosis.diagnose import Diagnosis
    from optimize.diagnosis.finding import Finding
    from optimize.diagnosis.inputs import Input
    from optimize.diagnosis.sizes import Part

_WIDTH = 100
_PARTS = 8  # the largest; the rest is summed up
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def print_diagnosis(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """Print what was found, at most 100 columns wide; ``--json`` tells it in full."""
    console = console or Console(highlight=False)
    console.width = min(console.width, _WIDTH) if console.is_terminal else _WIDTH
    _print_findings(console, diagnosis)
    if diagnosis.inputs:
        console.print()
        console.print(_inputs(diagnosis.inputs))
    console.print()
    console.print(_sizes(diagnosis))
    if diagnosis.work:
        console.print()
        console.print(_work(diagnosis))


def _print_findings(console: Console, diagnosis: Diagnosis) -> None:
    counts = ", ".join(
        f"{diagnosis.count(severity)} {severity}{'' if diagnosis.count(severity) == 1 else 's'}"
        for severity in ("error", "warning", "note")
    )
    console.print(f"{diagnosis.name}: {counts} ({diagnosis.seconds:.1f} s)", markup=False)
    for each in diagnosis.findings:
        console.print()
        _print_finding(console, each)


def _print_finding(console: Console, finding: Finding) -> None:
    console.print(Text.assemble((finding.severity, _STYLES[finding.severity]), f" {finding.code}"))
    lines = [finding.what]
    if finding.place and str(finding.place):
        lines.append(f"at {finding.place}")
    lines.append(f"→ {finding.remedy}")
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))


def _inputs(inputs: tuple[Input, ...]) -> Table:
    table = _table("input", "side", "type", "IDs", "seen", "moves scores by")
    for each in inputs:
        kind = each.dtype + (f" {list(each.shape)}" if each.shape else "")
        ids = "" if each.cardinality is None else f"0 … {each.cardinality - 1:,}"
        if each.padding is not None:
            ids += f" ({each.padding} pads)"
        whole = each.dtype.startswith(("int", "bool"))
        low, high = ((f"{x:,.0f}" if whole else f"{x:.4g}") for x in (each.lowest, each.highest))
        table.add_row(each.name, each.side, kind, ids, f"{low} … {high}", f"{each.influence:.2g}")
    return table


def _sizes(diagnosis: Diagnosis) -> Table:
    sizes = diagnosis.sizes
    total = sizes.bytes or 1
    table = _table("parameters", "shape", "type", "MB", "share", "read by")
    for title, parts in (("tables", sizes.tables), ("layers", sizes.layers)):
        for each in parts[:_PARTS]:
            shape = " x ".join(f"{size:,}" for size in each.shape)
            table.add_row(
                each.name or "(itself)", shape, each.dtype, *_share(each.bytes, total), _names(each)
            )
        rest = parts[_PARTS:]
        if rest:
            count = sum(each.bytes for each in rest)
            table.add_row(f"{len(rest)} more {title}", "", "", *_share(count, total), "")
    table.add_row("all", "", "", *_share(sizes.bytes, total), "")
    return table


def _names(part: Part) -> str:
    return ", ".join(part.features)


def _share(count: int, total: int) -> tuple[str, str]:
    return f"{count / 1e6:,.3f}", f"{count / total:.1%}"


def _work(diagnosis: Diagnosis) -> Table:
    table = _table(
        "work", "multiply-adds", "user alone", "kB of tables", "kB of weights", "kB in between"
    )
    for each in diagnosis.work:
        share = each.user_multiply_adds / each.multiply_adds if each.multiply_adds else 0.0
        table.add_row(
            f"{each.candidates} candidate{'' if each.candidates == 1 else 's'}",
            f"{each.multiply_adds:,}",
            f"{share:.1%}",
            *(
                f"{count / 1e3:,.1f}"
                for count in (each.table_bytes, each.weight_bytes, each.activation_bytes)
            ),
        )
    last = diagnosis.work[-1]
    table.add_row(
        f"of {last.candidates}, each",
        f"{last.multiply_adds / last.candidates:,.0f}",
        "",
        *(
            f"{count / 1e3 / last.candidates:,.1f}"
            for count in (last.table_bytes, last.weight_bytes, last.activation_bytes)
        ),
    )
    return table


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = {"MB", "share", "multiply-adds", "user alone", "kB of tables", "kB of weights"}
    numbers |= {"kB in between", "moves scores by"}
    for header in headers:
        table.add_column(header, justify="right" if header in numbers else "left", overflow="fold")
    return table
