"""benchmarks.md: a page made from results files and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.chapters import chapter
from bench.gpu.report import gpu_section
from bench.results_file import Runs, load_results
from bench.tables import environment_text
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.chapters import Chapter
    from bench.measurement import Measurement
    from bench.results_file import ResultsFile
    from bench.tables import Table

_HEAD = """\
# Benchmarks

Made by `python -m bench report` from the files in `bench/results/`, and from nothing else: change
those, not this page. `python -m bench report --check` fails when the two disagree. Each part names
its file and, below its tables, the command that makes every line of them.

Latencies are response times in milliseconds, counted from the moment a request was due, with 95 %
intervals in parentheses: order statistics, of as many independent requests as the run is worth
(block bootstrap, and the spread between rounds). A percentile that rests on too few is not printed
(-). A void row is kept to show that it was tried: do not quote it. Compare rows of the same
machine and load only.
"""


def load_folder(results: Path) -> list[ResultsFile]:
    """Read the ``*.json`` files of a folder, by name.

    Raises:
        UserError: The folder is missing, or a file cannot be read.
    """
    if not results.is_dir():
        raise UserError(f"{results}: no such folder of results; name it with --results")
    return [load_results(path) for path in sorted(results.glob("*.json"))]


def results_page(results: Path) -> str:
    """Return benchmarks.md for the results files in a folder.

    Raises:
        UserError: The folder is missing, a file cannot be read, or something in it does not say
            which command made it.
    """
    parts = [part for each in load_folder(results) for part in _parts(each)]
    pages = [_HEAD]
    for title, on_gpu in (("CPU", False), ("GPU", True)):
        chosen = [each for each in parts if each[0] == on_gpu]
        pages.append(f"## {title}\n")
        if not chosen:
            pages.append("Not run: there are no results.\n")
        for line in dict.fromkeys(line for _, line, _, _ in chosen):
            here = [(file, found) for _, other, file, found in chosen if other == line]
            machine = here[0][1].measurements[0].environment.machine
            pages.append(f"### Machine {machine}\n\n{line}.\n")
            pages += [_section(file, found) for file, found in here]
    pages.append(gpu_section(results))
    return "\n".join(pages)


def markdown(table: Table) -> str:
    """Return a table as Markdown, without its title and note."""
    alignment = ["---", *["---:"] * (len(table.columns) - 1)]
    rows = [table.columns, alignment, *table.rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in row)} |" for row in rows)


def _parts(file: ResultsFile) -> Iterator[tuple[bool, str, ResultsFile, Chapter]]:
    """Yield a file's chapter with its device and machine; runs that differ in those, apart.

    Raises:
        UserError: A measurement does not say which command made it.
    """
    for each in file.found.measurements:
        if not each.command:
            raise UserError(
                f"{file.path}: the measurement of {each.name!r} does not say which command made "
                "it; measure again with python -m bench"
            )
    if not isinstance(file.found, Runs):
        yield _sorted_in(file, chapter(file.found))
        return
    runs = file.found.measurements
    for key in dict.fromkeys(map(_key, runs)):
        alike = tuple(each for each in runs if _key(each) == key)
        splits = file.found.splits if runs[0] in alike else ()
        yield _sorted_in(file, chapter(Runs(alike, splits)))


def _sorted_in(file: ResultsFile, found: Chapter) -> tuple[bool, str, ResultsFile, Chapter]:
    on_gpu = any(each.on_gpu for each in found.measurements)
    return on_gpu, environment_text(found.measurements[0].environment), file, found


def _key(measurement: Measurement) -> tuple[bool, str, str]:
    environment = environment_text(measurement.environment)
    return measurement.on_gpu, environment, measurement.command


def _section(file: ResultsFile, found: Chapter) -> str:
    """Return a chapter: its tables, what is void, and the command."""
    parts = [f"#### {found.title} ({file.path.name})\n"]
    parts += [f"{text}\n" for text in found.texts]
    for table in found.tables:
        said = "" if table.title == found.title else f"{table.title}.\n\n"
        parts.append(f"{said}{markdown(table)}\n")
    voids = [f"- {name}: {'; '.join(reasons)}." for name, reasons in found.voids]
    if voids:
        parts.append("\n".join(["Void:\n", *voids, ""]))
    parts.append("\n".join(["Every line by:\n", "```", *found.commands, "```", ""]))
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
