"""The page of HTML."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bench.attribution import Split
from bench.html_report import html_report
from bench.load import closed_loop
from bench.results_file import Runs, load_results, save_results
from bench.timeline import record


@pytest.fixture
def page_of(tmp_path):
    """Make a page of what was found, by way of files."""

    def page(*found, title="title"):
        paths = [tmp_path / f"{number}.json" for number, _ in enumerate(found)]
        for each, path in zip(found, paths, strict=True):
            save_results(each, path)
        return html_report(title, [load_results(path) for path in paths])

    return page


@pytest.fixture
def page(page_of, make_measurement) -> str:
    runs = Runs((make_measurement(), make_measurement(steal_share=0.3)))
    return page_of(runs, title="A <b>title</b>")


@pytest.fixture
def course():
    return record(closed_loop(lambda _: None, [0], concurrency=1, count=100))


def test_every_kind_has_its_chapter_tables_and_pictures(page_of, found_of):
    page = page_of(*found_of.values())
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == [
        "Runs", "Comparison: a and b", "Capacity of a: 3 candidates", "Crossover: a and b",
        "Serving settings", "Demo: tiny", "Measured on",
    ]  # fmt: skip
    # Two each: latency and Pareto, capacity and the tails at its ends, a crossover for each load.
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 12
    assert "<td>0.510 (0.450 to 0.580)</td>" in page
    for each in drawings:
        ET.fromstring(each)  # noqa: S314 - our own drawing
    # Two pictures of a page share no names.
    clips = [set(re.findall(r'<clipPath id="([^"]+)"', each)) for each in drawings]
    assert sum(map(len, clips)) == len(set().union(*clips)) > 0
    # Nothing is fetched.
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import|<script', page) == []


def test_the_course_of_a_single_run_is_shown_and_those_of_several_fold(
    page_of, make_measurement, course
):
    one = make_measurement(timeline=course)
    assert "<details open>" in page_of(Runs((one,)))
    several = page_of(Runs((one, one)))
    assert "<details>" in several
    assert several.count("time of measuring, s") == 2


def test_where_the_time_goes_has_a_table_and_a_picture(page_of, make_measurement):
    splits = tuple(Split(10.0, 20.0, 30.0, 40.0 + each) for each in range(100))
    page = page_of(Runs((make_measurement(),), splits))
    assert '<th scope="col">network</th>' in page
    assert 'aria-label="Where the time goes: 100 traced requests"' in page


def test_texts_are_escaped(page):
    assert "A &lt;b&gt;title&lt;/b&gt;" in page


def test_a_name_cannot_break_out_of_a_picture(page_of, make_measurement):
    target = {"name": "</svg><script>", "device": "cpu"}
    page = page_of(Runs((make_measurement(target=target),)))
    assert "<script>" not in page


def test_says_what_is_void_where_it_was_measured_and_how(page):
    assert "30.0% of CPU time was stolen" in page
    assert "Slide Rule" in page
    assert "python -m bench run a" in page


def test_the_same_files_give_the_same_page(page_of, found_of):
    assert page_of(found_of["capacity"]) == page_of(found_of["capacity"])


def test_a_run_without_answers_has_a_page(page_of, make_measurement):
    failed = make_measurement(np.empty(0), duration_s=0.0)
    assert "too few" in page_of(Runs((failed,)))
