"""An evaluation as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rankers.evaluation.judged import SliceQuality
    from rankers.intervals import Interval

_NAME, _VALUE, _RANGE = 20, 9, 20


def evaluation_table(slices: Sequence[SliceQuality], *, against: str | None) -> str:
    """Return slices one below the other, a metric on each line.

    Args:
        slices: What was judged.
        against: The name of the ranker compared with, if there was one.
    """
    return "\n".join(line for each in slices for line in _lines(each, against))


def _lines(part: SliceQuality, against: str | None) -> Iterator[str]:
    about = "" if part.name == "overall" else f" ({part.about})"
    yield f"{part.name}{about}"
    if not part.rows:
        yield "  no candidate is in it"
        return
    yield (
        f"  {part.requests:,} requests, {part.rows:,} candidates, {part.positives:,} of them with "
        "a label above 0"
    )
    head = f"  {'':{_NAME}}{'':>{_VALUE}}  {'95 % interval':{_RANGE}}"
    if against is not None:
        head += f"{_cut(against):>{_NAME}}  {'difference':>11}  95 % interval"
    yield head.rstrip()
    for name, value in part.metrics.items():
        if value is None:
            continue
        line = f"  {name:{_NAME}}{value:>{_VALUE}.4f}  {_range(part.intervals.get(name)):{_RANGE}}"
        change = part.differences.get(name)
        other = part.against.get(name)
        if change is not None and other is not None:
            line += f"{other:>{_NAME}.4f}  {change.estimate:>+11.5f}  {_range(change, signed=True)}"
        yield line.rstrip()


def _range(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    form = "+.5f" if signed else ".4f"
    return f"{interval.low:{form}} … {interval.high:{form}}"


def _cut(name: str) -> str:
    return name if len(name) < _NAME else f"{name[: _NAME - 2]}…"
