"""The diagram as SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from optimize.split_report.drawing import COLOURS, FRONTIER, TIMES, Drawing, bytes_text, lines_of
from optimize.user_once.diagram import Diagram, Edge, Group, Value

HOSTILE = 'a<b>&"c'
VALUES = (Value("h", (100, 64), 25_600), Value("mask", (100,), 100))
GROUPS = (
    Group("history", "column", "user", ("history",), 1, (100,), 0, 0),
    Group(HOSTILE, "operators", "user", ("embedding", "add"), 1, (100, 64), 0, 25_600),
    Group("item_0 … item_9", "column", "item", tuple("abcdefghij"), 10, (), 0, 0),
    Group("tables", "operators", "item", ("embedding",) * 10, 10, (64,), 0, 512_000),
    Group("head.0", "operators", "both", ("linear",), 1, (), 1_250_000, 0),
)
EDGES = (
    Edge(0, 1, VALUES[:1], crosses=False),
    Edge(1, 4, VALUES, crosses=True),
    Edge(2, 3, VALUES[:1], crosses=False),
    Edge(3, 4, VALUES[:1], crosses=False),
)
SVG = "{http://www.w3.org/2000/svg}"


def drawing(groups=GROUPS, edges=EDGES):
    return Drawing("once", f"title {HOSTILE}", "", Diagram(groups, edges), ("once", "each"))


@pytest.fixture(scope="module")
def svg():
    return drawing().svg("salt")


def texts(svg):
    return [each.text for each in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314 - our own


def test_it_is_one_element_in_which_names_are_texts_and_nothing_is_fetched(svg):
    assert ET.fromstring(svg).tag == f"{SVG}svg"  # noqa: S314 - our own
    assert HOSTILE in texts(svg)
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import|<script', svg) == []


def test_each_group_is_a_box_in_its_sides_colour_with_all_that_is_known_to_be_pointed_at(svg):
    groups = list(ET.fromstring(svg).iter(f"{SVG}g"))  # noqa: S314 - our own
    colours = [each.find(f"{SVG}rect").get("stroke") for each in groups]
    assert colours == [COLOURS[each.side] for each in GROUPS]
    tips = [each.find(f"{SVG}title").text for each in groups]
    assert "multiply-adds of a request: 1,250,000" in tips[4]
    assert "operators: embedding, add" in tips[1]


def test_the_frontier_is_marked_and_says_what_crosses_it(svg):
    lines = [each for each in ET.fromstring(svg).iter(f"{SVG}line")  # noqa: S314 - our own
             if each.get("class") == "frontier"]  # fmt: skip
    assert "0" in {each.get("x1") for each in lines}  # beside the one in the legend
    assert FRONTIER in svg
    assert "2 values, 25.7 kB" in texts(svg)
    crossing = [each for each in ET.fromstring(svg).iter(f"{SVG}path")  # noqa: S314 - our own
                if "crossing" in each.get("class", "")]  # fmt: skip
    assert len(crossing) == 1
    assert "mask [100], 100 bytes a row" in crossing[0].find(f"{SVG}title").text


def test_the_legend_names_the_sides_that_are_there_and_lanes_have_headings(svg):
    assert {"the user's", "the item's", "of both", "once", "each"} <= set(texts(svg))
    assert "of neither" not in texts(svg)


def test_two_drawings_of_a_page_share_no_names(svg):
    other = drawing().svg("pepper")
    names = [set(re.findall(r'id="([^"]+)"', each)) for each in (svg, other)]
    assert names[0]
    assert not names[0] & names[1]
    for drawn, own in zip((svg, other), names, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", drawn)) <= own


def test_without_a_user_there_is_no_frontier():
    alone = drawing(GROUPS[2:4], (Edge(0, 1, VALUES[:1], crosses=False),)).svg("salt")
    assert "each" in texts(alone)
    assert "once" not in texts(alone)
    assert 'class="frontier"' not in alone


def test_a_box_says_its_name_what_it_does_and_how_much():
    assert lines_of(GROUPS[1]) == (HOSTILE, "embedding, add", "[100, 64] · 25.6 kB read")
    assert lines_of(GROUPS[2]) == ("item_0 … item_9", "10 columns")
    assert lines_of(GROUPS[3]) == (f"10 {TIMES} tables", "embedding", "[64] · 512 kB read")
    assert lines_of(GROUPS[4]) == ("head.0", "linear", "1.25 M mult-adds")
    long = Group("a." * 30 + "self", "operators", "user", ("cat",) * 3, 1, (), 0, 0)
    name, did = lines_of(long)
    assert name.startswith("…a.")
    assert name.endswith(".self")
    assert len(name) < 30
    assert did == f"3 {TIMES} concat"


def test_bytes_are_written_in_three_digits():
    assert [bytes_text(x) for x in (0, 816, 1208, 25_600, 5_222_400)] == [
        "0 B", "816 B", "1.21 kB", "25.6 kB", "5.22 MB",
    ]  # fmt: skip
