"""Put into README.md what is made elsewhere: help, tables, figures and pictures of results.

python .ci/readme.py            write them
python .ci/readme.py --check    exit 1 if the README does not say what they say

Between `<!-- help: NAME -->` and `<!-- /help -->` stands the help of `python -m NAME`; between
`<!-- demo: FILE -->` and `<!-- /demo -->` the tables of a results file in bench/results/; after
`<!-- picture: FILE -->` its picture. A figure in a sentence stands between
`<!-- figure: FILE, TARGET, WHAT -->` and `<!-- /figure -->`; WHAT is as in `bench/quotes.py`.
"""

from __future__ import annotations

import io
import re
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"
PICTURES = Path("docs/pictures")
COMMAND_LINES = ("optimize", "rankers", "bench", "client")


def made(text: str) -> str:
    """Return the README with all parts that are made elsewhere as they are now."""
    for put in (with_help, with_demo, with_figures, with_pictures):
        text = put(text)
    return text


def with_help(text: str) -> str:
    """Return the README with each help block as its command line prints it."""
    for name in COMMAND_LINES:
        group = import_module(f"{name}.cli").main
        # With the group's own settings, as a person's call has them.
        context = group.make_context(
            f"python -m {name}", [], resilient_parsing=True, terminal_width=96
        )
        with context:
            block = f"```\n{group.get_help(context)}\n```"
        text = _replace(text, f"<!-- help: {name} -->", "<!-- /help -->", lambda _, b=block: b)
    return text


def with_demo(text: str) -> str:
    """Return the README with the demo's tables as a terminal shows them."""
    return _replace(text, r"<!-- demo: (?P<file>\S+) -->", "<!-- /demo -->", _demo)


def with_figures(text: str) -> str:
    """Return the README with each figure as its results file has it.

    Raises:
        LookupError: No such target or quantity is in the file, or it is void.
    """
    begin = r"<!-- figure: (?P<file>[^,]+), (?P<target>.+?), (?P<what>[^,>]+?) -->"
    return _replace(text, begin, "<!-- /figure -->", _figure, lines=False)


def with_pictures(text: str) -> str:
    """Return the README with each picture in its light and its dark form."""
    return _replace(text, r"<!-- picture: (?P<file>\S+) -->", "<!-- /picture -->", _picture)


def _demo(found: re.Match[str]) -> str:
    from rich.console import Console

    from bench.chapters import chapter
    from bench.demo_report import Demo
    from bench.printing import WIDTH, draw_tables, remarks
    from bench.results_file import load_results

    file = load_results(RESULTS / found["file"])
    tables = chapter(file.found).tables
    console = Console(width=WIDTH, file=io.StringIO())
    draw_tables(tables[:1] if isinstance(file.found, Demo) else tables, console)
    for line in remarks(file.found.measurements):
        console.print(line, highlight=False, markup=False)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return "\n".join(["```", *lines, "```"])


def _figure(found: re.Match[str]) -> str:
    from bench.quotes import quote
    from bench.results_file import load_results

    return quote(load_results(RESULTS / found["file"]).found, found["target"], found["what"])


def _picture(found: re.Match[str]) -> str:
    from bench.pictures.files import headline, picture_name
    from bench.results_file import load_results

    file = load_results(RESULTS / found["file"])
    picture = headline(file)
    if picture is None:
        raise LookupError(f"{found['file']} has no picture")
    light, dark = (PICTURES / picture_name(file, ground) for ground in ("light", "dark"))
    return (
        f'<picture>\n<source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
        f'<img alt="{picture.title}" src="{light}" width="800">\n</picture>'
    )


def _replace(text: str, begin: str, end: str, block, *, lines: bool = True) -> str:  # noqa: ANN001
    pattern = re.compile(f"(?P<begin>{begin}).*?{re.escape(end)}", re.DOTALL)
    edge = "\n" if lines else ""
    return pattern.sub(lambda m: f"{m['begin']}{edge}{block(m)}{edge}{end}", text)


def main() -> int:
    """Write or check; see the module's first lines."""
    before = README.read_text()
    after = made(before)
    if "--check" in sys.argv:
        return int(after != before)
    README.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
