"""``bench report``: pages and pictures of results files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.printing import say_line
from rankers.command_line import json_option, print_json
from rankers.errors import UserError


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path),
              help="Write this page of FILES, with pictures, instead.")  # fmt: skip
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"),
              show_default=True, help="The folder of results files.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks.md"),
              show_default=True, help="The page to write.")  # fmt: skip
@click.option("--pictures", type=click.Path(path_type=Path),
              help="Draw the pictures of the README into this folder, too.")  # fmt: skip
@click.option("--check", is_flag=True,
              help="Write nothing; exit 1 if something is not up to date.")  # fmt: skip
@json_option
def report(
    *, files: tuple[Path, ...], html: Path | None, results: Path, out: Path,
    pictures: Path | None, check: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write benchmarks.md from the results files, or a page of HTML from FILES.

    FILES are what --out of run, compare, capacity, crossover or sweep wrote, or the demo's
    results.json; by default those of --results.
    """
    if html is not None:
        if check or pictures is not None:
            raise UserError("--html writes one page of FILES: leave out --check and --pictures")
        _write_html(files, results, html, as_json=as_json)
        return
    if files:
        raise UserError(
            f"{files[0]}: files are for a page of HTML, which --html names; benchmarks.md is made "
            f"from all of {results}"
        )
    _write_benchmarks(results, out, pictures, check=check, as_json=as_json)


def _write_html(files: tuple[Path, ...], results: Path, html: Path, *, as_json: bool) -> None:
    from bench.html_report import html_report
    from bench.report import load_folder
    from bench.results_file import load_results
    from rankers.files import write_atomically

    read = [load_results(path) for path in files] if files else load_folder(results)
    if not read:
        raise UserError(f"{results} has no results files: name some, or measure with --out")
    names = [file.path.stem for file in read]
    title = ", ".join(names) if len(names) <= 3 else f"{len(names)} results files"
    write_atomically(html, html_report(f"rankserve: {title}", read))
    if as_json:
        print_json({"page": str(html), "files": [str(file.path) for file in read]})
    else:
        click.echo(f"{html} written")


def _write_benchmarks(
    results: Path, out: Path, pictures: Path | None, *, check: bool, as_json: bool
) -> None:
    from bench.pictures.files import stale_pictures, write_pictures
    from bench.report import load_folder, results_page
    from rankers.files import write_atomically

    page = results_page(results)
    current = out.is_file() and out.read_text() == page
    stale = [] if pictures is None else stale_pictures(load_folder(results), pictures)
    if not check and not current:
        write_atomically(out, page)
    if not check and pictures is not None:
        write_pictures(load_folder(results), pictures)
    behind = [*([] if current else [out]), *stale]
    if as_json:
        print_json(
            {
                "page": str(out),
                "was_current": current,
                "written": not check and not current,
                "pictures_behind": [str(path) for path in stale],
            }
        )
    elif check:
        for path in behind:
            say_line(f"{path} is not what {results} gives: run make bench-report")
    for path in [] if as_json or check else [out, *stale]:
        said = "is up to date" if path not in behind else "written" if path.exists() else "removed"
        click.echo(f"{path} {said}")
    if check and behind:
        sys.exit(1)
