"""How every picture looks."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from bench.pictures.canvas import ALARM, COLOURS, GROUNDS, log_axis, new_figure
from bench.pictures.latency import latency_picture


@pytest.fixture
def picture(make_measurement):
    return latency_picture([make_measurement()])


def luminance(colour):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_svg_is_well_formed_and_takes_the_pages_colour(picture):
    svg = picture.svg("a")
    root = ET.fromstring(svg)  # noqa: S314 - our own drawing
    assert root.tag.endswith("svg")
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg)) == {COLOURS[0]}
    assert "currentColor" in svg


def test_the_same_measurements_draw_the_same_bytes(picture):
    assert picture.svg("a") == picture.svg("a")
    assert picture.svg("a") != picture.svg("b")
    assert picture.png("dark", {}) == picture.png("dark", {})


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_png_has_a_ground_of_its_own_and_readable_ink(picture, ground):
    paper, ink = GROUNDS[ground]
    with Image.open(io.BytesIO(picture.png(ground, {"Source": "a.json"}))) as image:
        assert image.text["Source"] == "a.json"
        corner = image.convert("RGBA").getpixel((0, 0))
    assert corner == (*(round(255 * part) for part in to_rgb(paper)), 255)
    assert contrast(paper, ink) >= 7


@pytest.mark.parametrize("colour", [*COLOURS, ALARM])
@pytest.mark.parametrize("ground", GROUNDS)
def test_colours_stand_out_on_both_grounds(colour, ground):
    assert contrast(colour, GROUNDS[ground][0]) >= 3


@pytest.mark.parametrize("limits", [(1, 2), (0.9, 4), (3, 40), (0.05, 200), (0.001, 1e4)])
def test_a_logarithmic_axis_has_several_numbers_and_no_powers(limits):
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(limits)
    log_axis(axes.xaxis)
    figure.draw_without_rendering()
    shown = [
        label.get_text()
        for label in axes.get_xticklabels()
        if limits[0] <= label.get_position()[0] <= limits[1]
    ]
    assert 3 <= len(shown) <= 14
    assert not any("$" in text or "e" in text for text in shown)


@pytest.mark.parametrize("length", [5, 30, 60, 300])
def test_names_of_any_length_leave_the_axes_their_width(make_measurement, length):
    runs = [make_measurement(target={"name": f"{place}" * length}) for place in range(4)]
    figure = latency_picture(runs).draw("black")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_position().width > 0.8
    assert axes.get_legend().get_window_extent().x1 <= figure.bbox.x1
