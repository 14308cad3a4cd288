"""The examples in docs/ run, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EXAMPLES = [
    (page.relative_to(DOCS).as_posix(), place, code)
    for page in PAGES
    for place, code in enumerate(
        re.findall(r"<!-- example -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
    )
]


@pytest.mark.parametrize(
    "code", [each[2] for each in EXAMPLES], ids=[f"{page}-{place}" for page, place, _ in EXAMPLES]
)
def test_an_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})  # noqa: S102 - our own page


@pytest.mark.parametrize(
    ("page", "link"),
    [
        (page.relative_to(DOCS).as_posix(), link)
        for page in PAGES
        for link in sorted(set(re.findall(r"\]\(([^)#:]+)\)", page.read_text())))
    ],
)
def test_every_link_leads_somewhere(page, link):
    assert ((DOCS / page).parent / link).exists()
