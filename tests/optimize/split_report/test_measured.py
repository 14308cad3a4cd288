"""Latencies in the report: of a results file of this ranker, or none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from optimize.split_report.measured import (
    COMMAND,
    measured_json,
    measured_table,
    read_measured,
    remarks,
)
from optimize.split_report.page import split_page
from rankers.errors import UserError

RESULTS = Path(__file__).parents[3] / "bench" / "results"
FILE = RESULTS / "user-once-at-history.json"


@pytest.fixture(scope="module")
def history(shop):
    return dataclasses.replace(shop, ranker="history")


@pytest.fixture(scope="module")
def found(history):
    return read_measured(FILE, history)


def test_each_number_of_candidates_has_a_row_for_each_target_and_the_gain(found):
    table = measured_table(found)
    assert [row[0] for row in table.rows[::2]] == [
        f"closed, 1 at once; {count} candidates" for count in (1, 50, 200, 500)
    ]
    for cell, row in zip(found.cells, table.rows[1::2], strict=True):
        flat, once = (each.percentile(0.5).value_us for each in cell.measurements)
        assert float(row[4].split()[0]) == pytest.approx(flat / once, rel=0.01)
        assert row[4].endswith("(cannot tell)") != cell.winner(0.5).sure
    assert measured_json(found)[0]["target"] == found.measurements[0].name


def test_it_is_said_whether_this_very_artifact_was_measured(history, found):
    key = found.measurements[1].target["key"]
    assert next(remarks(found, dataclasses.replace(history, served=key))) == (
        "Measured on this very artifact."
    )
    assert "another build" in next(remarks(found, history))


def test_measurements_of_another_ranker_are_refused(shop):
    with pytest.raises(UserError, match="of the ranker 'history', not of 'shop': measure it with"):
        read_measured(FILE, shop)


def test_a_page_without_measurements_says_how_to_make_them_and_one_with_them_shows_them(
    history, found
):
    without, with_them = split_page(history, None), split_page(history, found)
    assert COMMAND in without
    assert "p50" not in without
    assert COMMAND not in with_them
    assert "p50, ms" in with_them
    assert found.measurements[0].command.partition(" --ranker")[0] in with_them
