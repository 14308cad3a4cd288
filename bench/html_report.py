"""A self-contained page of HTML: tables, pictures, the machine. Nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.chapters import chapters
from bench.tables import environment_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.chapters import Chapter
    from bench.results_file import ResultsFile


def html_report(title: str, files: Sequence[ResultsFile]) -> str:
    """Return the page of results files.

    Args:
        title: Its heading.
        files: Single runs come first and are shown together; then a chapter for each file.
    """
    return html_page(title, chapters(files))


def html_page(title: str, found: Sequence[Chapter]) -> str:
    """Return a page of chapters, and below them the machines that they were measured on."""
    from importlib.resources import files as resources

    import jinja2

    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string((resources("bench") / "report.html.j2").read_text())
    measurements = [each for one in found for each in one.measurements]
    return template.render(
        title=title,
        chapters=found,
        environments=list(
            dict.fromkeys(environment_text(each.environment) for each in measurements)
        ),
        made=max((each.timestamp_utc for each in measurements), default=""),
    )
