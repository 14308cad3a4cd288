"""A page of HTML that tells what ``user_once`` did to a ranker. Nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.chapters import Chapter, chapter
from bench.html_report import html_page
from optimize.split_report.drawing import Drawing, bytes_text
from optimize.split_report.measured import COMMAND, measured_table, remarks
from optimize.split_report.tables import rewrite_texts, sentences, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.results_file import Found
    from optimize.split_report.reading import SplitReport
    from optimize.user_once.diagram import Diagram

_HOW_TO_READ = (
    "Left of the dashed line is what depends on the user alone. Point at a box or a line for all "
    "that is known of it."
)


def split_page(report: SplitReport, found: Found | None) -> str:
    """Return the page.

    Args:
        report: What the stage left.
        found: What was measured; None if nothing was.
    """
    chapters = [
        Chapter(
            title="What changed" if report.rewritten else "What stayed, and why",
            measurements=(),
            tables=tuple(tables(report)),
            drawings=tuple(_drawings(report)),
            texts=(*sentences(report), *rewrite_texts(report)),
        )
    ]
    if found is None:
        chapters.append(_not_measured())
    else:
        pictures = chapter(found)
        chapters.append(
            Chapter(
                title="Measured",
                measurements=tuple(found.measurements),
                tables=(measured_table(found),),
                pictures=pictures.pictures,
                texts=tuple(remarks(found, report)),
            )
        )
    return html_page(f"{report.ranker}: one user, N candidates", chapters)


def _drawings(report: SplitReport) -> Iterator[Drawing]:
    """Yield the flat graph and the split one, where there are."""
    flat = None if report.before is None else report.before.diagram
    once = None if report.after is None else report.after.diagram
    if flat is not None:
        kept = "" if report.rewritten else " (kept)"
        yield Drawing(
            name="flat",
            title=f"Flat{kept}: all of it for each candidate",
            caption=f"{_HOW_TO_READ} In the flat form all of it is computed for each of the "
            f"{report.candidates:,} candidates, and so are the figures in the boxes.",
            diagram=flat,
            headings=("the user's, computed N times", "for each candidate"),
        )
    if once is not None:
        kept = "" if report.rewritten else " (not kept)"
        yield Drawing(
            name="once",
            title=f"The user's part once{kept}",
            caption=f"{_HOW_TO_READ} {_frontier(once)} A box named after an operator "
            "is of the ranker's own forward, or of a rewrite.",
            diagram=once,
            headings=("once a request", "for each candidate"),
        )


def _frontier(diagram: Diagram) -> str:
    crossing = diagram.frontier
    if not crossing:
        return "Nothing crosses the frontier."
    size = bytes_text(sum(each.bytes_per_row for each in crossing))
    values = "1 value crosses" if len(crossing) == 1 else f"{len(crossing)} values cross"
    return f"{values} the frontier, {size} a user; what is read twice is drawn twice."


def _not_measured() -> Chapter:
    text = (
        "No latency was measured for this page. Where RANKER is what the recipe was run on, "
        f"measure with `{COMMAND}`, and give the file to this report as --measured."
    )
    return Chapter(title="Not measured", measurements=(), tables=(), texts=(text,))
