"""The page of HTML and its plot."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bench.html_report import html_report
from bench.plots import latency_figure, latency_svg
from bench.tables import latency_table


@pytest.fixture
def page(make_measurement) -> str:
    runs = [make_measurement(), make_measurement(steal_share=0.3)]
    return html_report("A <b>title</b>", runs, [latency_table(runs)])


def test_nothing_is_fetched(page):
    fetching = re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import|<script', page)
    assert fetching == []


def test_texts_are_escaped(page):
    assert "A &lt;b&gt;title&lt;/b&gt;" in page


def test_says_what_is_void_where_it_was_measured_and_how(page):
    assert "30.0% of CPU time was stolen" in page
    assert "Slide Rule" in page
    assert "python -m bench run a" in page


def test_without_measurements_is_a_page_of_tables():
    assert "<svg" not in html_report("empty", [], [])


def test_the_plot_is_well_formed_and_takes_the_pages_colour(make_measurement):
    svg = latency_svg([make_measurement()])
    root = ET.fromstring(svg)  # noqa: S314 - our own drawing
    assert root.tag.endswith("svg")
    colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg))
    assert colours == {"#2f7fd6"}
    assert "currentColor" in svg


def test_the_same_measurements_draw_the_same_bytes(make_measurement):
    assert latency_svg([make_measurement()]) == latency_svg([make_measurement()])


def test_a_curve_falls_from_all_requests_to_one(make_measurement):
    run = make_measurement(np.array([0.004, 0.001, 0.002, 0.002]))
    (curve,) = [
        line for line in latency_figure([run]).axes[0].lines if line.get_label() == "a (void)"
    ]
    assert curve.get_xdata().tolist() == [1.0, 2.0, 4.0]
    assert curve.get_ydata().tolist() == [1.0, 0.75, 0.25]


def test_colours_stand_out_on_white_and_on_near_black():
    from matplotlib.colors import to_rgb

    from bench.plots import _COLOURS

    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for colour in _COLOURS:
        ours = luminance(colour)
        assert (luminance("#ffffff") + 0.05) / (ours + 0.05) >= 3
        assert (ours + 0.05) / (luminance("#14171b") + 0.05) >= 3


def test_a_run_without_answers_is_left_out(make_measurement):
    figure = latency_figure([make_measurement(np.empty(0))])
    assert len(figure.axes[0].lines) == 0
