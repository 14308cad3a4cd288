"""No figure in README.md or benchmarks.md without a committed results file and its command."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from bench.demo_report import Demo
from bench.pictures.files import stale_pictures
from bench.report import load_folder, results_page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "benchmarks.md").read_text()

# A number with a unit of time, speed, size or gain.
FIGURE = re.compile(
    r"\d[\d.,]*(?:\s|-)?(?:"
    r"(?:ms|µs|us|ns|s|min|seconds?|minutes?|hours?|times|x|[kMGT]i?B|QPS|"
    r"(?:req|requests|candidates|queries|rows)?/s|(?:req|requests|candidates|queries) per second)\b"
    "|\N{MULTIPLICATION SIGN}|%)"
)
# What looks like one and is no measurement.
SETTINGS = {
    "95 %": "the confidence of intervals",
    "5 minutes": "a bound, which the demo's own seconds are held to below",
}
# Made from results by .ci/readme.py, or printed by a command line.
MADE = re.compile(r"<!-- (demo|figure|picture|help): .*?<!-- /\1 -->", re.DOTALL)


def readme_script():
    location = importlib.util.spec_from_file_location("readme", ROOT / ".ci" / "readme.py")
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def figures_written_by_hand(text):
    return [each for each in FIGURE.findall(MADE.sub("", text)) if each not in SETTINGS]


class TestReadme:
    def test_its_figures_tables_and_pictures_are_those_of_the_results(self):
        assert readme_script().made(README) == README, "run: python .ci/readme.py"

    def test_it_has_no_figure_that_was_written_by_hand(self):
        assert figures_written_by_hand(README) == []

    @pytest.mark.parametrize(
        "planted",
        ["a p99 of 3 ms", "1,200 requests/s", "is 2.3 times as fast", "40 % faster", "12.5 minutes",
         "2\N{MULTIPLICATION SIGN}", "6.3 MB", "800 µs", "a 15-ms tail", "300/s",
         "30 requests per second"],
    )  # fmt: skip
    def test_one_written_by_hand_is_found(self, planted):
        text = README.replace("## Commands", f"{planted}.\n\n## Commands")
        before, after = figures_written_by_hand(README), figures_written_by_hand(text)
        assert len(after) == len(before) + 1

    def test_one_changed_by_hand_is_found(self):
        first = re.search(r"(<!-- figure: [^>]*-->)([^<]+)<", README)
        changed = README.replace(first[0], f"{first[1]}0.001 ms<")
        assert changed != README
        assert readme_script().made(changed) != changed

    def test_one_that_the_results_do_not_have_is_refused(self):
        text = "<!-- figure: demo-cpu.json, Nobody, p50 -->1 ms<!-- /figure -->"
        with pytest.raises(LookupError, match="no p50 of 'Nobody'"):
            readme_script().made(text)

    def test_all_of_it_is_of_committed_files_that_name_their_command(self):
        named = set(re.findall(r"<!-- (?:demo|figure|picture): ([^ ,]+)", README))
        commands = {each.path.name: each.commands for each in load_folder(RESULTS)}
        assert named
        for name in named:
            assert all(commands[name])
        assert commands["demo-cpu.json"] == ("make demo",)  # it stands at the page's head

    def test_every_setting_that_may_stand_there_does(self):
        assert all(setting in README for setting in SETTINGS)

    def test_the_demo_takes_no_longer_than_is_promised(self):
        for each in load_folder(RESULTS):
            if isinstance(each.found, Demo):
                assert each.found.about["seconds"] < 5 * 60


class TestPictures:
    def test_they_were_drawn_from_the_results(self):
        stale = stale_pictures(load_folder(RESULTS), ROOT / "docs" / "pictures")
        assert stale == [], "run: make bench-report"


class TestBenchmarks:
    def test_it_is_what_the_results_give(self):
        assert results_page(RESULTS) == PAGE, "run: make bench-report"

    def test_every_table_stands_in_a_part_with_its_file_and_its_command(self):
        head, *parts = re.split(r"^#### ", PAGE, flags=re.MULTILINE)
        assert "\n| " not in head
        assert parts
        for part in parts:
            name = re.match(r".* \((\S+\.json)\)\n", part)[1]
            assert (RESULTS / name).is_file()
            below = part[part.rindex("\n| ") :]
            assert re.search(r"\nEvery line by:\n\n```\n(make|python) \S+", below)
