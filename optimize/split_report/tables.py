"""What ``user_once`` did, as tables and sentences."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bench.tables import Table, number_text
from optimize.split_report.drawing import COLOURS, TIMES, WORDS, amount_text, bytes_text
from rankers.wire import request_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optimize.split_report.reading import SplitReport, Taken

# The numbers of candidates that are told of.
CANDIDATES = (1, 50, 200, 500)
# Above this share of the flat form's time the cost model sees no gain; as the stage does.
_NO_GAIN = 0.98


def tables(report: SplitReport) -> list[Table]:
    """Return the tables that need no measurement."""
    work = [] if report.before is None else [_work_table(report, report.before)]
    return [*work, _candidates_table(report)]


def sentences(report: SplitReport) -> Iterator[str]:
    """Yield what became of the ranker and why, most important first."""
    if report.rewritten:
        yield f"The user's part is computed once a request: {report.reason}."
    else:
        yield f"The flat program was kept: {report.reason.removeprefix('kept flat: ')}."
    if report.before is None:
        return
    flat = report.before
    products = sum(flat.multiply_adds.values())
    if products:
        share = flat.multiply_adds["user"] / products
        yield (
            f"{_percent(share)} of the flat program's multiply-adds depend on the user alone, and "
            f"{_percent(flat.multiply_adds['item'] / products)} on the item alone."
        )
    if report.after is not None and report.rewritten:
        yield from _where_it_does_not_pay(report.before, report.after)


def rewrite_texts(report: SplitReport) -> Iterator[str]:
    """Yield what each rewrite did, and how many times."""
    for name, lines in report.rewrites.items():
        tried = "" if report.rewritten else ", tried"
        yield f"Rewrite {name}, {len(lines)}{TIMES}{tried}: {'; '.join(dict.fromkeys(lines))}."


def work_json(report: SplitReport) -> dict[str, Any]:
    """Return the figures of the tables as JSON-ready data."""
    return {
        "ranker": report.ranker,
        "rewritten": report.rewritten,
        "reason": report.reason,
        "candidates": report.candidates,
        "rewrites": report.rewrites,
        "flat": _taken_json(report.before),
        "user_once": _taken_json(report.after),
        "wire_bytes": {
            str(n): {"flat": flat, "packed": packed} for n, flat, packed in wire_sizes(report)
        },
    }


def wire_sizes(report: SplitReport) -> Iterator[tuple[int, int, int]]:
    """Yield each number of candidates with the bytes of a request: of flat rows, and as sent."""
    for count in CANDIDATES:
        yield (
            count,
            request_bytes(report.signature, count, user_rows=count),
            request_bytes(report.signature, count),
        )


def _work_table(report: SplitReport, flat: Taken) -> Table:
    once = report.after
    counted: list[tuple[str, Callable[[Taken], float], Callable[[float], str]]] = [
        *((f"operators, {WORDS[side]}", partial(_operators, side), _count) for side in COLOURS),
        *((f"multiply-adds, {WORDS[side]}", partial(_products, side), amount_text)
          for side in COLOURS if side != "none"),
        ("multiply-adds", _all_products, amount_text),
        ("bytes read from tables", _gathered, bytes_text),
    ]  # fmt: skip
    rows = [_row(name, flat, once, value, text) for name, value, text in counted]
    if once is not None and once.diagram is not None:
        crossing = once.diagram.frontier
        size = bytes_text(sum(each.bytes_per_row for each in crossing))
        rows.append(("values repeated at the frontier", "", f"{len(crossing)}, {size} a user", ""))
    return Table(
        title=f"What a request of {report.candidates:,} candidates takes",
        columns=("", *_forms(report), *([] if once is None else ["times less"])),
        rows=tuple(row if once is not None else row[:2] for row in rows),
        note="Counted in the graph of torch.export, before other conversions; reshapes and other "
        "views are left out. In the flat form the user's operators run for every candidate.",
    )


def _candidates_table(report: SplitReport) -> Table:
    forms = [each for each in (report.before, report.after) if each is not None]
    columns = ["N", *(f"{name}, ms" for name, _ in zip(_forms(report), forms, strict=False))]
    columns += ["times faster"] if len(forms) == 2 else []
    rows = []
    for count, repeated, packed in wire_sizes(report):
        times = [each.modelled_ms_at[count] for each in forms]
        faster = [number_text(times[0] / times[1])] if len(forms) == 2 else []
        sizes = (bytes_text(repeated), bytes_text(packed))
        rows.append((f"{count:,}", *map(number_text, times), *faster, *sizes))
    return Table(
        title="By number of candidates: expected times, and bytes on the wire",
        columns=(*columns, "wire, flat rows", "wire, as sent"),
        rows=tuple(rows),
        note="Times: by a cost model that tells which form is faster, and is no measurement. Bytes "
        "of a request's tensors, without framing: of flat rows, with the user N times, and as "
        "rankserve sends them, the user once, whether the program is flat or not.",
    )


def _where_it_does_not_pay(flat: Taken, once: Taken) -> Iterator[str]:
    for count, before in sorted(flat.modelled_ms_at.items()):
        share = once.modelled_ms_at[count] / before
        if share > _NO_GAIN:
            yield (
                f"At N = {count:,} no gain is expected ({share:.0%} of the flat form's time): "
                "measure, and serve the flat form where requests are that small."
            )


def _forms(report: SplitReport) -> list[str]:
    """Return what the forms are called."""
    if report.rewritten:
        return ["flat", "split"]
    return ["flat (kept)"] + ([] if report.after is None else ["split (not kept)"])


def _row(
    name: str,
    flat: Taken,
    once: Taken | None,
    value: Callable[[Taken], float],
    text: Callable[[float], str],
) -> tuple[str, ...]:
    """Return both forms' figures, and how many times less the second is where it is less."""
    before = value(flat)
    if once is None:
        return (name, text(before))
    after = value(once)
    less = f"{number_text(before / after)}" if after and before > after else ""
    return (name, text(before), text(after), less)


def _operators(side: str, taken: Taken) -> float:
    return taken.operators[side]


def _products(side: str, taken: Taken) -> float:
    return taken.multiply_adds[side]


def _all_products(taken: Taken) -> float:
    return sum(taken.multiply_adds.values())


def _gathered(taken: Taken) -> float:
    return taken.gathered_bytes


def _taken_json(taken: Taken | None) -> dict[str, Any] | None:
    if taken is None:
        return None
    return {
        "operators": taken.operators,
        "multiply_adds": taken.multiply_adds,
        "gathered_bytes": taken.gathered_bytes,
        "modelled_ms_at": {str(n): ms for n, ms in taken.modelled_ms_at.items()},
        "frontier": None
        if taken.diagram is None
        else [
            {"name": x.name, "shape": list(x.shape), "bytes_per_row": x.bytes_per_row}
            for x in taken.diagram.frontier
        ],
    }


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == 0 or share >= 0.01 else f"{share:.1%}"
