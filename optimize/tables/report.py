"""What became of each table: bytes, bytes of a lookup, and how far rows are from what they were."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from optimize.tables.program import Table


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table.

    Attributes:
        name: As the module calls it.
        rows: How many.
        dimension: D.
        width: What its values are held in now, such as ``int8`` or ``float32``.
        lookups: How many nodes of the graph read it.
        bytes_before: Of the whole table.
        bytes_after: Codes and levels of scales together.
        lookup_bytes_before: That reading one row moves.
        lookup_bytes_after: That it moves now.
        median_row_error: ``|new - old| / |old|`` of a row that is not all zeros; 0 if kept.
        worst_row_error: The largest.
        reason: Why it was left alone; empty if it was not.
        kept_rows: That are still its own; all but the shared one, if rows were folded.
    """

    name: str
    rows: int
    dimension: int
    width: str
    lookups: int
    bytes_before: int
    bytes_after: int
    lookup_bytes_before: float
    lookup_bytes_after: float
    median_row_error: float = 0.0
    worst_row_error: float = 0.0
    reason: str = ""
    kept_rows: int = 0

    @classmethod
    def kept(cls, table: Table, reason: str) -> TableReport:
        """Tell of a table that stays as it is."""
        width = str(table.weight.dtype).removeprefix("torch.")
        sizes = _sizes(table, width, table.bytes)
        return cls(*sizes, reason=reason, kept_rows=len(table.weight))

    @classmethod
    def changed(cls, table: Table, width: str, new_bytes: int, errors: Tensor) -> TableReport:
        """Tell of a table with new values, whose rows have relative errors ``[n]``."""
        median = float(errors.median()) if len(errors) else 0.0
        worst = float(errors.max()) if len(errors) else 0.0
        sizes = _sizes(table, width, new_bytes)
        return cls(*sizes, median, worst, kept_rows=len(table.weight))

    @classmethod
    def folded(cls, table: Table, new_bytes: int, *, kept: int, lookup_bytes: int) -> TableReport:
        """Tell of a table whose rare rows share one."""
        width = str(table.weight.dtype).removeprefix("torch.")
        sizes = _sizes(table, width, new_bytes)[:-1]
        return cls(*sizes, lookup_bytes, kept_rows=kept)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


def summary(reports: Sequence[TableReport]) -> str:
    """Return one line on all tables."""
    if not reports:
        return "the program has no tables"
    changed = [each for each in reports if not each.reason]
    before, after = (sum(getattr(each, f"bytes_{x}") for each in reports) for x in _ENDS)
    line = f"{len(changed)} of {len(reports)} tables"
    if changed:
        widths = "/".join(sorted({each.width for each in changed}))
        smaller = sum(x.bytes_before for x in changed) / sum(x.bytes_after for x in changed)
        line += f" {widths}, {smaller:.2f} times smaller"
    line += f"; all tables {before:,} → {after:,} bytes"
    if changed:
        worst = max(each.median_row_error for each in changed)
        line += f"; median error of a row at most {worst:.2%}"
    return line


def fold_summary(reports: Sequence[TableReport]) -> str:
    """Return one line on all tables of which rows were folded."""
    folded = [each for each in reports if not each.reason]
    if not folded:
        return "no table has rows worth folding"
    before, after = (sum(getattr(each, f"bytes_{x}") for each in reports) for x in _ENDS)
    rows, kept = sum(x.rows for x in folded), sum(x.kept_rows for x in folded)
    return (
        f"{rows - kept:,} of {rows:,} rows in {len(folded)} of {len(reports)} tables share one of "
        f"their table; all tables {before:,} → {after:,} bytes"
    )


def factor_summary(reports: Sequence[TableReport], method: str) -> str:
    """Return one line on all tables, of which some became products by a method."""
    changed = [each for each in reports if not each.reason]
    if not changed:
        return "no table is worth factoring"
    before, after = (sum(getattr(each, f"bytes_{x}") for each in reports) for x in _ENDS)
    worst = max(each.median_row_error for each in changed)
    return (
        f"{len(changed)} of {len(reports)} tables {method}; all tables {before:,} → {after:,} "
        f"bytes; median error of a row at most {worst:.2%}"
    )


def precision_with(precision: str, widths: Sequence[str]) -> str:
    """Return an artifact's precision with what its tables have: ``fp32, tables int4/int8``."""
    rest, _, had = precision.partition(_TABLES)
    found = {*widths, *(had.split("/") if had else ())}
    return rest + (_TABLES + "/".join(sorted(found)) if found else "")


_TABLES = ", tables "
_ENDS = ("before", "after")


def _sizes(
    table: Table, width: str, new_bytes: int
) -> tuple[str, int, int, str, int, int, int, float, float]:
    rows, dimension = table.weight.shape
    return (
        table.name, rows, dimension, width, len(table.lookups), table.bytes, new_bytes,
        table.bytes / rows, new_bytes / rows,
    )  # fmt: skip
