"""Put the command lines' help, and the demo's table if there is a new one, into README.md.

python .ci/readme.py            write them
python .ci/readme.py --check    exit 1 if the help is not what the README says
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
COMMAND_LINES = ("optimize", "rankers", "bench")


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
        text = _replace(text, f"<!-- help: {name} -->", "<!-- /help -->", block)
    return text


def with_demo(text: str, table: str) -> str:
    """Return the README with the demo's table."""
    return _replace(text, "<!-- demo -->", "<!-- /demo -->", f"```\n{table.rstrip()}\n```")


def _replace(text: str, begin: str, end: str, block: str) -> str:
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{block}\n{end}", text, count=1)


def main() -> int:
    """Write or check; see the module's first lines."""
    before = README.read_text()
    after = with_help(before)
    if "--check" in sys.argv:
        return int(after != before)
    if len(sys.argv) > 1:
        after = with_demo(after, Path(sys.argv[1]).read_text())
    README.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
